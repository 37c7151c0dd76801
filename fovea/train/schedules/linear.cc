// Warm-up, then straight down to `final`.
#include "fovea/train/schedule.h"

namespace fovea::train {
namespace {

class Linear final : public Schedule {
 public:
  Linear(Settings& settings, const Context& context)
      : Schedule(settings, context), final_(settings.number("final", 0, 0, 1)) {}
  double after(int64_t step) const override { return 1 + (final_ - 1) * progress(step); }

 private:
  double final_;
};
FOVEA_TRAIN_PART(Schedule, "linear", Linear);

}  // namespace
}  // namespace fovea::train
