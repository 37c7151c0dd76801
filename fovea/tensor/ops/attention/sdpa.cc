#include "fovea/tensor/ops/attention/sdpa.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "fovea/base/check.h"
#include "fovea/base/threads.h"
#include "fovea/tensor/tape.h"

namespace fovea::tensor {
namespace {

struct Size {
  int64_t n, n_heads, n_kv_heads, head_dim;
  int64_t group() const { return n_heads / n_kv_heads; }
  int64_t q_row(int64_t token, int64_t head) const { return (token * n_heads + head) * head_dim; }
  int64_t k_row(int64_t token, int64_t kv_head) const { return (token * n_kv_heads + kv_head) * head_dim; }
};

double dot(const float* a, const float* b, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(a[i]) * b[i];
  return sum;
}

void add_scaled(double factor, const float* from, int64_t n, float* to) {
  for (int64_t i = 0; i < n; ++i) to[i] += static_cast<float>(factor * from[i]);
}

// Fills visible[j] for one token, and says nothing of heads: all see the same.
void find_visible(std::span<const int32_t> positions, std::span<const int32_t> sequences, size_t i,
                  std::vector<char>& visible) {
  for (size_t j = 0; j < positions.size(); ++j)
    visible[j] = sequences[i] == sequences[j] && positions[j] <= positions[i];
}

// pattern[j] = softmax over visible j of scale * q . k[j]; 0 elsewhere. A row that sees nothing is all 0.
void pattern_row(const Size& size, const float* q, const float* k, int64_t kv_head, double scale,
                 const std::vector<char>& visible, double* pattern) {
  double top = -INFINITY, sum = 0;
  for (int64_t j = 0; j < size.n; ++j) {
    if (!visible[static_cast<size_t>(j)]) continue;
    pattern[j] = scale * dot(q, k + size.k_row(j, kv_head), size.head_dim);
    top = std::max(top, pattern[j]);
  }
  for (int64_t j = 0; j < size.n; ++j) {
    pattern[j] = visible[static_cast<size_t>(j)] ? std::exp(pattern[j] - top) : 0.0;
    sum += pattern[j];
  }
  if (sum > 0)
    for (int64_t j = 0; j < size.n; ++j) pattern[j] /= sum;
}

// With P the pattern: dV[j] += P[j] dz; dS = P (dP - sum(P dP)) with dP[j] = dz . v[j];
// dq += scale dS k; dk[j] += scale dS[j] q. The pattern is computed again, row by row, rather than kept.
// One task per KV head: its query group adds into the same dk and dv.
void sdpa_backward(const Size& size, const Tensor& q, const Tensor& k, const Tensor& v,
                   std::span<const int32_t> positions, std::span<const int32_t> sequences, double scale,
                   const float* dz, float* dq, float* dk, float* dv) {
  pool().for_each(size.n_kv_heads, [&](int64_t kv_head, int) {
    std::vector<char> visible(static_cast<size_t>(size.n));
    std::vector<double> pattern(static_cast<size_t>(size.n)), dp(pattern.size());
    for (int64_t i = 0; i < size.n; ++i) {
      find_visible(positions, sequences, static_cast<size_t>(i), visible);
      for (int64_t h = kv_head * size.group(); h < (kv_head + 1) * size.group(); ++h) {
        const float *q_row = q.data() + size.q_row(i, h), *dz_row = dz + size.q_row(i, h);
        pattern_row(size, q_row, k.data(), kv_head, scale, visible, pattern.data());
        double mean = 0;
        for (int64_t j = 0; j < size.n; ++j) {
          const auto at = static_cast<size_t>(j);
          if (!visible[at]) continue;
          dp[at] = dot(dz_row, v.data() + size.k_row(j, kv_head), size.head_dim);
          mean += pattern[at] * dp[at];
        }
        for (int64_t j = 0; j < size.n; ++j) {
          const auto at = static_cast<size_t>(j);
          if (!visible[at]) continue;
          const int64_t k_row = size.k_row(j, kv_head);
          const double ds = scale * pattern[at] * (dp[at] - mean);
          if (dv) add_scaled(pattern[at], dz_row, size.head_dim, dv + k_row);
          if (dq) add_scaled(ds, k.data() + k_row, size.head_dim, dq + size.q_row(i, h));
          if (dk) add_scaled(ds, q_row, size.head_dim, dk + k_row);
        }
      }
    }
  });
}

}  // namespace

Tensor sdpa(const Tensor& q, const Tensor& k, const Tensor& v, std::span<const int32_t> positions,
            std::span<const int32_t> sequences, float scale) {
  FOVEA_CHECK(q.shape().rank() == 3 && k.shape().rank() == 3 && k.shape() == v.shape() && q.dim(0) == k.dim(0) &&
                  q.dim(2) == k.dim(2) && k.dim(1) > 0 && q.dim(1) % k.dim(1) == 0,
              "sdpa: q {}, k {}, v {} do not fit", q.shape().to_string(), k.shape().to_string(), v.shape().to_string());
  const Size size{.n = q.dim(0), .n_heads = q.dim(1), .n_kv_heads = k.dim(1), .head_dim = q.dim(2)};
  FOVEA_CHECK(static_cast<int64_t>(positions.size()) == size.n && static_cast<int64_t>(sequences.size()) == size.n,
              "sdpa: {} tokens with {} positions and {} sequence ids", size.n, positions.size(), sequences.size());
  Tensor z = Tensor::empty(q.shape());
  pool().for_each(size.n_heads, [&](int64_t h, int) {
    const int64_t kv_head = h / size.group();
    std::vector<char> visible(static_cast<size_t>(size.n));
    std::vector<double> pattern(visible.size()), sum(static_cast<size_t>(size.head_dim));
    for (int64_t i = 0; i < size.n; ++i) {
      find_visible(positions, sequences, static_cast<size_t>(i), visible);
      pattern_row(size, q.data() + size.q_row(i, h), k.data(), kv_head, scale, visible, pattern.data());
      std::fill(sum.begin(), sum.end(), 0.0);
      for (int64_t j = 0; j < size.n; ++j) {
        const double p = pattern[static_cast<size_t>(j)];
        if (p == 0) continue;
        const float* row = v.data() + size.k_row(j, kv_head);
        for (size_t c = 0; c < sum.size(); ++c) sum[c] += p * row[c];
      }
      float* out = z.data() + size.q_row(i, h);
      for (size_t c = 0; c < sum.size(); ++c) out[c] = static_cast<float>(sum[c]);
    }
  });
  if (Tape* tape = current_tape()) {
    tape->record(z, {q, k, v},
                 [q, k, v, z = ValueId(z), size, scale, at = std::vector<int32_t>(positions.begin(), positions.end()),
                  of = std::vector<int32_t>(sequences.begin(), sequences.end())](Tape& t) {
                   float* dq = t.needs_grad(q) ? t.grad(q).data() : nullptr;
                   float* dk = t.needs_grad(k) ? t.grad(k).data() : nullptr;
                   float* dv = t.needs_grad(v) ? t.grad(v).data() : nullptr;
                   sdpa_backward(size, q, k, v, at, of, scale, t.grad(z).data(), dq, dk, dv);
                 });
  }
  return z;
}

}  // namespace fovea::tensor
