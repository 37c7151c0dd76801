#pragma once
#include "fovea/tensor/tensor.h"

namespace fovea::tensor {
// y[b, t, c] = bias[c] + sum_j w[c, j] x[b, t + j - before, c]; what lies outside counts as 0. before = size - 1 is
// causal, (size - 1) / 2 looks both ways. x [batch, n, channels], w [channels, size], bias [channels] or !defined().
Tensor depthwise_conv1d(const Tensor& x, const Tensor& w, const Tensor& bias, int64_t before);
inline Tensor causal_conv1d(const Tensor& x, const Tensor& w, const Tensor& bias) {
  return depthwise_conv1d(x, w, bias, w.shape().rank() == 2 ? w.dim(1) - 1 : 0);
}
}  // namespace fovea::tensor
