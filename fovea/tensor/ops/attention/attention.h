#pragma once
#include <cstdint>
#include <span>

#include "fovea/kernels/attention.h"
#include "fovea/tensor/tensor.h"

namespace fovea::tensor {
struct AttentionOptions {
  float scale = 1;             // multiplies q . k
  float softcap = 0;           // > 0: a score s becomes softcap tanh(s / softcap)
  kernels::KeyRule rule = {};  // of causal attention: a window, and how far ahead a token sees
  bool causal = true;          // token i sees token j only if positions[j] <= positions[i] + rule.ahead; false: all
};
// z = softmax(scale * q k^T) v in float32, through the kernels of inference: the fast form of sdpa, with gradients.
// q [n, n_heads, k_dim], k [n, n_k_heads, k_dim], v [n, n_v_heads, v_dim], already rotated; tokens see those of their
// own sequence. -> [n, n_heads, v_dim]. Widths up to 256; v_dim need not be k_dim. Head h reads key head h * n_k_heads
// / n_heads, and likewise of values; one of their numbers divides the other.
Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, std::span<const int32_t> positions,
                 std::span<const int32_t> sequences, const AttentionOptions& options);
}  // namespace fovea::tensor
