// Warm-up, then sqrt(warmup / (s + 1)). Vaswani et al., arXiv:1706.03762, 5.3; without a warm-up 1 / sqrt(s + 1).
#include <cmath>

#include "fovea/train/schedule.h"

namespace fovea::train {
namespace {

class InverseSqrt final : public Schedule {
 public:
  InverseSqrt(Settings& settings, const Context& context) : Schedule(settings, context) {}
  double after(int64_t step) const override {
    return std::sqrt(static_cast<double>(std::max<int64_t>(warmup(), 1)) / static_cast<double>(step + 1));
  }
};
FOVEA_TRAIN_PART(Schedule, "inverse-sqrt", InverseSqrt);

}  // namespace
}  // namespace fovea::train
