// One cycle: from 1 / div up to 1 over the share `up` of the run, then down to 1 / (div final_div), both along a half
// cosine. Smith & Topin, arXiv:1708.07120. It has no warm-up besides.
#include <cmath>
#include <numbers>

#include "fovea/train/schedule.h"

namespace fovea::train {
namespace {

class OneCycle final : public Schedule {
 public:
  OneCycle(Settings& settings, const Context& context)
      : Schedule(settings, context),
        up_(settings.number("up", 0.3, 0.001, 0.999)),
        low_(1 / settings.number("div", 25, 1, 1e9)),
        last_(low_ / settings.number("final_div", 1e4, 1, 1e12)) {
    if (warmup() > 0) settings.wrong("warmup", "has no place in one-cycle, which begins with its own");
  }
  double after(int64_t step) const override {
    const double at = progress(step);
    return at < up_ ? between(low_, 1, at / up_) : between(1, last_, (at - up_) / (1 - up_));
  }

 private:
  static double between(double from, double to, double at) {
    return to + (from - to) * (1 + std::cos(std::numbers::pi * at)) / 2;
  }
  double up_, low_, last_;
};
FOVEA_TRAIN_PART(Schedule, "one-cycle", OneCycle);

}  // namespace
}  // namespace fovea::train
