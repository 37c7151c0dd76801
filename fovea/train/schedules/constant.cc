// 1 after the warm-up.
#include "fovea/train/schedule.h"

namespace fovea::train {
namespace {

class Constant final : public Schedule {
 public:
  Constant(Settings& settings, const Context& context) : Schedule(settings, context) {}
  double after(int64_t) const override { return 1; }
};
FOVEA_TRAIN_PART(Schedule, "constant", Constant);

}  // namespace
}  // namespace fovea::train
