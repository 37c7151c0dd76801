#pragma once
#include "fovea/tensor/ops/image/window.h"

namespace fovea::tensor {
struct Conv2d {
  HeightWidth stride = 1, pad = 0, dilation = 1;
  int64_t groups = 1;  // group g of the outputs reads group g of the channels alone
};
// y[b, o, y, x] = bias[o] + sum_{c, i, j} w[o, c, i, j] x[b, c, y stride + i dilation - pad, ...], as PyTorch has it.
// x [batch, channels, height, width], w [outputs, channels / groups, kernel height, kernel width]; bias [outputs] may
// be !defined().
Tensor conv2d(const Tensor& x, const Tensor& w, const Tensor& bias, const Conv2d& how = {});
}  // namespace fovea::tensor
