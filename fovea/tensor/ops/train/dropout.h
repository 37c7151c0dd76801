#pragma once
#include <cstdint>

#include "fovea/tensor/tensor.h"

namespace fovea::tensor {
// Zero with probability `rate`, else x / (1 - rate). Whether element i goes is a function of (key, i) alone: the same
// in forward and backward, on any number of threads, and when a step is computed again. rate 0 gives x back.
Tensor dropout(const Tensor& x, float rate, uint64_t key);
}  // namespace fovea::tensor
