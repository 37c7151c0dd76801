#pragma once
#include "fovea/tensor/tensor.h"

namespace fovea::tensor {
// Same values, other shape; gradients pass through.
Tensor reshape(const Tensor& x, const Shape& shape);
// [n, n_heads * head_dim] <-> [n, n_heads, head_dim]
Tensor split_heads(const Tensor& x, int64_t n_heads);
Tensor merge_heads(const Tensor& x);
}  // namespace fovea::tensor
