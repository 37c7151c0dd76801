// How the learning rate moves: what a step's lr is multiplied with.
#pragma once

#include <algorithm>
#include <cstdint>

#include "fovea/train/part.h"

namespace fovea::train {

class Schedule {
 public:
  struct Context {
    int64_t steps = 1;  // of the whole run
  };
  virtual ~Schedule() = default;
  // Of step s, from 0; past the end of the run it stays what it was there. While s < warmup it is (s + 1) / warmup.
  double factor(int64_t step) const {
    const int64_t s = std::min(step, steps_ - 1);
    return s < warmup_ ? static_cast<double>(s + 1) / static_cast<double>(warmup_) : after(s);
  }

 protected:
  Schedule(Settings& settings, const Context& context)
      : steps_(context.steps), warmup_(settings.integer("warmup", 0, 0, INT64_MAX / 2)) {}
  virtual double after(int64_t step) const = 0;
  // 0 at the end of the warm-up, towards 1 at the end of the run.
  double progress(int64_t step) const {
    return steps_ > warmup_ ? static_cast<double>(step - warmup_) / static_cast<double>(steps_ - warmup_) : 1;
  }
  int64_t warmup() const { return warmup_; }
  int64_t steps() const { return steps_; }

 private:
  int64_t steps_, warmup_;
};

}  // namespace fovea::train
