#pragma once
#include "fovea/tensor/tensor.h"

namespace fovea::tensor {
// y = x (1 + scale) + shift (Peebles & Xie, arXiv:2212.09748): x [n, d], scale and shift [samples, d], each for the
// n / samples neighbouring rows of its sample.
Tensor modulate(const Tensor& x, const Tensor& scale, const Tensor& shift);
}  // namespace fovea::tensor
