// One cycle: from 1 / div up to 1 over the share `up` of the run, then down to 1 / (div final_div) at the last step,
// both along a half cosine; the peak is at step up * steps - 1, as in PyTorch, also where that is before the first:
// the run is then on its way down from the start. Smith & Topin, arXiv:1708.07120. It has no warm-up besides.
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
    const auto s = static_cast<double>(step), last = static_cast<double>(steps() - 1);
    const double peak = up_ * static_cast<double>(steps()) - 1;  // before the last: up_ is below 1
    return s < peak ? between(low_, 1, s / peak) : between(1, last_, (s - peak) / (last - peak));
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
