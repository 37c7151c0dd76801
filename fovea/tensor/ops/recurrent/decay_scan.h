#pragma once
#include "fovea/tensor/tensor.h"

namespace fovea::tensor {
// h[b, t] = decay[b, t] h[b, t - 1] + x[b, t], element by element, from h[b, -1] = first[b] (zeros where !defined()).
// x and decay [batch, n, d], first [batch, d]; gradients to all three.
Tensor decay_scan(const Tensor& x, const Tensor& decay, const Tensor& first = {});
}  // namespace fovea::tensor
