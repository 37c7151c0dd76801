#pragma once
#include "fovea/tensor/ops/next.h"
#include "fovea/tensor/weight.h"

namespace fovea::tensor {
// y = (x - mean) / sqrt(variance + eps) * weight + bias over the last dimension (Ba et al., arXiv:1607.06450); the
// variance is that of n values. Neither weight nor bias need be defined.
Tensor layer_norm(const Tensor& x, const Weight& weight, const Weight& bias, float eps, Next next = Next::kAnything);
// x - mean(x): layer_norm(x) has the bits of rms_norm(center(x)) and the bias, so its parts for hooks are those of
// rms_norm.
Tensor center(const Tensor& x);
}  // namespace fovea::tensor
