#pragma once
#include <cstdint>
#include <span>

#include "fovea/tensor/tensor.h"

namespace fovea::tensor {
// Causal attention with every row materialised: the differentiable reference.
// q [n, n_heads, head_dim], k and v [n, n_kv_heads, head_dim], already rotated; token i sees token
// j iff sequences are equal and positions[j] <= positions[i]. -> [n, n_heads, head_dim].
// z = softmax(scale * q k^T) v
Tensor sdpa(const Tensor& q, const Tensor& k, const Tensor& v, std::span<const int32_t> positions,
            std::span<const int32_t> sequences, float scale);
}  // namespace fovea::tensor
