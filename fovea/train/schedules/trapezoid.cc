// Up in a line from `from` over the first share `up` of the run, level, and down again over its last share `down`: what
// DuoAttention's gates are trained with (arXiv:2410.10819, the authors' train.py).
#include <algorithm>

#include "fovea/train/schedule.h"

namespace fovea::train {
namespace {

class Trapezoid final : public Schedule {
 public:
  Trapezoid(Settings& settings, const Context& context)
      : Schedule(settings, context),
        from_(settings.number("from", 0.1, 0, 1)),
        up_(settings.number("up", 0.2, 0, 1)),
        down_(settings.number("down", 0.2, 0, 1)) {
    if (up_ + down_ > 1) settings.wrong("down", "and up are more than the run together");
    if (warmup() > 0) settings.wrong("warmup", "is not for a trapezoid, whose rise is up");
  }
  double after(int64_t step) const override {
    const double n = static_cast<double>(steps()), rise = up_ * n, fall = down_ * n;
    double height = 1;
    if (rise > 0) height = std::min(height, static_cast<double>(step) / rise);
    if (fall > 0) height = std::min(height, (n - static_cast<double>(step)) / fall);
    return from_ + (1 - from_) * height;
  }

 private:
  double from_, up_, down_;
};
FOVEA_TRAIN_PART(Schedule, "trapezoid", Trapezoid);

}  // namespace
}  // namespace fovea::train
