#pragma once
#include "fovea/tensor/tensor.h"

namespace fovea::tensor {
// y = (x - mean) / sqrt(variance + eps) weight[c] + bias[c], mean and variance over a sample's group of neighbouring
// channels and all their places (Wu & He, arXiv:1803.08494). x [batch, channels, ...]; weight and bias [channels], or
// !defined(). groups = channels is instance norm.
Tensor group_norm(const Tensor& x, int64_t groups, const Tensor& weight, const Tensor& bias, float eps);
}  // namespace fovea::tensor
