#pragma once
#include "fovea/tensor/tensor.h"

namespace fovea::tensor {
// Attention without a softmax, over a causal prefix that is kept as one matrix a head (Katharopoulos et al.,
// arXiv:2006.16236; with decay Yang et al., arXiv:2312.06635):
//   S[t] = diag(decay[t]) S[t - 1] + k[t] v[t]^T, from S[-1] = 0;   y[t] = S[t]^T q[t]
// q, k [batch, n, heads * k_dim], v [batch, n, heads * v_dim], decay like k, or !defined(): nothing is forgotten. What
// divides by the sum of weights is a further column of ones in v. Gradients to all.
Tensor linear_attention(const Tensor& q, const Tensor& k, const Tensor& v, int64_t heads, const Tensor& decay = {});
}  // namespace fovea::tensor
