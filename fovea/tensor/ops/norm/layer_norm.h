#pragma once
#include "fovea/tensor/weight.h"

namespace fovea::tensor {
// y = (x - mean) / sqrt(variance + eps) * weight + bias over the last dimension (Ba et al., arXiv:1607.06450); the
// variance is that of n values. Neither weight nor bias need be defined.
Tensor layer_norm(const Tensor& x, const Weight& weight, const Weight& bias, float eps);
}  // namespace fovea::tensor
