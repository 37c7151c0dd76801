#pragma once
#include "fovea/tensor/tensor.h"

namespace fovea::tensor {
Tensor stop_gradient(const Tensor& x);  // the values, as a constant
// The values of `hard`, the gradient of `soft` (Bengio et al., arXiv:1308.3432).
Tensor straight_through(const Tensor& hard, const Tensor& soft);
}  // namespace fovea::tensor
