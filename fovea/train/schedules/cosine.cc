// Warm-up, then a half cosine down to `final`. Loshchilov & Hutter, arXiv:1608.03983, without restarts.
#include <cmath>
#include <numbers>

#include "fovea/train/schedule.h"

namespace fovea::train {
namespace {

class Cosine final : public Schedule {
 public:
  Cosine(Settings& settings, const Context& context)
      : Schedule(settings, context), final_(settings.number("final", 0.1, 0, 1)) {}
  double after(int64_t step) const override {
    return final_ + (1 - final_) * (1 + std::cos(std::numbers::pi * progress(step))) / 2;
  }

 private:
  double final_;
};
FOVEA_TRAIN_PART(Schedule, "cosine", Cosine);

}  // namespace
}  // namespace fovea::train
