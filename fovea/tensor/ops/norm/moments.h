// Sums over runs of values in double, in one order. For this room only.
#pragma once

#include <cmath>
#include <cstdint>

namespace fovea::tensor {

// sum of f(i) for i in [0, n): eight sums side by side, so that additions need not wait for each other.
template <typename F>
double sum_of(int64_t n, const F& f) {
  double lanes[8] = {};
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    for (int64_t k = 0; k < 8; ++k) lanes[k] += f(i + k);
  }
  for (int64_t k = 0; i < n; ++i, ++k) lanes[k] += f(i);
  return ((lanes[0] + lanes[4]) + (lanes[1] + lanes[5])) + ((lanes[2] + lanes[6]) + (lanes[3] + lanes[7]));
}

}  // namespace fovea::tensor
