#pragma once
#include "fovea/tensor/tensor.h"

namespace fovea::tensor {
// y = (x - mean[c]) / sqrt(variance[c] + eps) weight[c] + bias[c] (Ioffe & Szegedy, arXiv:1502.03167), x [batch,
// channels, ...], all others [channels]; weight and bias may be !defined().
struct ChannelMoments {
  Tensor mean, variance;
};
// With the moments of x itself, over the batch and all places. `seen` gets them: the variance as an estimate for more
// data, of n - 1, to be averaged over steps.
Tensor batch_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, float eps, ChannelMoments* seen = nullptr);
// With given ones, which are constants.
Tensor batch_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, float eps, const ChannelMoments& moments);
}  // namespace fovea::tensor
