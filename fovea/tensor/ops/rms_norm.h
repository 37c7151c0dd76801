#pragma once
#include "fovea/tensor/weight.h"

namespace fovea::tensor {
// y = x / sqrt(mean(x^2) + eps) * weight over the last dimension. Zhang & Sennrich, arXiv:1910.07467
Tensor rms_norm(const Tensor& x, const Weight& weight, float eps);
// Its parts, for hooks: 1 / scale [n, 1] with scale = sqrt(mean(x^2) + eps), and x / scale.
Tensor rms_scale(const Tensor& x, float eps);
}  // namespace fovea::tensor
