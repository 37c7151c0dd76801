// Loops of group norm and its gradient over runs of values: a group for its moments, a channel for the rest.
// Every n may be 0 or any length, every pointer need only be aligned as a float.
#pragma once

#include <cstdint>

#include "fovea/kernels/isa.h"

namespace fovea::kernels {

struct NormSums {
  double first = 0, second = 0;  // in double over short runs of float lanes
};
// sum x, and sum (x - mean)^2 with that mean; n > 0
extern Dispatched<void(const float* x, int64_t n, NormSums& sums)> moment_sums;
// sum dy, and sum dy (x - mean)
extern Dispatched<void(const float* x, const float* dy, float mean, int64_t n, NormSums& sums)> slope_sums;

// y = (x - mean) factor + shift
extern Dispatched<void(const float* x, float mean, float factor, float shift, int64_t n, float* y)> move_scale;
// dx = dy factor - (x - mean) pull - shift, or added
struct NormSlope {
  float mean, factor, pull, shift;
};
extern Dispatched<void(const float* x, const float* dy, const NormSlope& slope, int64_t n, bool add, float* dx)>
    norm_backward;

}  // namespace fovea::kernels
