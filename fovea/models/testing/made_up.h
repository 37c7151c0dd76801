// For tests: a family with made-up weights, and what its slow twin is written with: plain double loops over rows.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <map>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "fovea/models/support/forward.h"
#include "fovea/tensor/testing/gradient_check.h"
#include "fovea/tensor/weight.h"

namespace fovea::models {

// Every weight of a family, normal with a spread that keeps values near 1; norms lie around 1. `stored` is what a
// Hugging Face file would hold of it.
class MadeUp {
 public:
  explicit MadeUp(std::unique_ptr<Family> family, uint64_t seed = 1) : family_(std::move(family)) {
    for (const tensor::Parameter& p : family_->weights()) {
      if (p.optional) continue;
      const bool vector = p.shape.size() == 1, norm = vector && p.name.ends_with("weight");
      tensor::Tensor stored =
          tensor::random_tensor(vector ? tensor::Shape{p.shape[0]} : tensor::Shape{p.shape[1], p.shape[0]}, seed++,
                                vector ? 0.2 : 1 / std::sqrt(static_cast<double>(p.shape[0])));
      for (int64_t i = 0; norm && i < stored.elements(); ++i) stored.data()[i] += 1 - p.hf.plus;
      tensor::Tensor value = tensor::Tensor::from(stored.shape(), stored.values());
      for (int64_t i = 0; i < value.elements(); ++i) value.data()[i] += p.hf.plus;
      *p.target = tensor::Weight::from(p.name, value);
      stored_.emplace(p.name, std::move(stored));
      parameters_.emplace_back(p.name, std::move(value));
    }
  }
  Family& family() const { return *family_; }
  const attention::ModelShape& shape() const { return family_->config().shape; }
  const tensor::Tensor& stored(const std::string& name) const { return stored_.at(name); }
  // In the order of the family's table; they share the values that it runs on.
  std::vector<std::pair<std::string, tensor::Tensor>>& parameters() { return parameters_; }

  attention::Attend::Context context(const attention::Batch& batch, attention::KvCache* cache) const {
    return {.model = shape(), .ropes = family_->config().ropes, .batch = batch, .cache = cache};
  }
  attention::CacheShape cache_shape() const { return attention::CacheShape::of(shape(), kernels::KvType::kF32); }

 private:
  std::unique_ptr<Family> family_;
  std::map<std::string, tensor::Tensor> stored_;
  std::vector<std::pair<std::string, tensor::Tensor>> parameters_;
};

// Rows at first, first + 1, ... of sequence 0; the logits of all are wanted.
inline attention::Batch batch_of(std::span<const int32_t> ids, int32_t first = 0,
                                 attention::Phase phase = attention::Phase::kPrompt) {
  attention::Batch batch;
  batch.add(ids, first, 0, phase);
  batch.logit_rows.resize(ids.size());
  std::iota(batch.logit_rows.begin(), batch.logit_rows.end(), 0);
  return batch;
}
inline std::vector<int32_t> some_ids(int n, int vocab_size) {
  std::vector<int32_t> ids;
  for (int i = 0; i < n; ++i) ids.push_back((3 + i * i + 7 * i) % vocab_size);
  return ids;
}
inline std::vector<float> values(const tensor::Tensor& t) { return {t.values().begin(), t.values().end()}; }

// The slow twin's words.
namespace twin {

using Row = std::vector<double>;
using Rows = std::vector<Row>;

inline Rows rows_of(const tensor::Tensor& t) {
  Rows rows;
  for (int64_t i = 0; i < t.dim(0); ++i) rows.emplace_back(t.data() + i * t.dim(1), t.data() + (i + 1) * t.dim(1));
  return rows;
}
inline Row vector_of(const tensor::Tensor& t) { return {t.values().begin(), t.values().end()}; }
inline Rows map(const Rows& x, const std::function<Row(const Row&)>& f) {
  Rows y;
  for (const Row& row : x) y.push_back(f(row));
  return y;
}
inline Row map(const Row& x, const std::function<double(double)>& f) {
  Row y;
  for (const double v : x) y.push_back(f(v));
  return y;
}
inline Row plus(Row a, const Row& b) {
  for (size_t i = 0; i < a.size(); ++i) a[i] += b[i];
  return a;
}
inline Row times(Row a, const Row& b) {
  for (size_t i = 0; i < a.size(); ++i) a[i] *= b[i];
  return a;
}
inline Rows plus(Rows a, const Rows& b) {
  for (size_t i = 0; i < a.size(); ++i) a[i] = plus(std::move(a[i]), b[i]);
  return a;
}
inline Rows product(const Rows& x, const Rows& w) {  // y[t][r] = x[t] . w[r]
  return map(x, [&](const Row& in) {
    Row y;
    for (const Row& r : w) y.push_back(std::inner_product(r.begin(), r.end(), in.begin(), 0.0));
    return y;
  });
}
inline Row rms_norm(const Row& x, const Row& w, double eps) {
  const double squares = std::inner_product(x.begin(), x.end(), x.begin(), 0.0);
  Row y = times(x, w);
  for (double& v : y) v /= std::sqrt(squares / static_cast<double>(x.size()) + eps);
  return y;
}
inline Row layer_norm(const Row& x, const Row& w, const Row& b, double eps) {
  const double n = static_cast<double>(x.size()), mean = std::accumulate(x.begin(), x.end(), 0.0) / n;
  double variance = 0;
  for (const double v : x) variance += (v - mean) * (v - mean) / n;
  Row y;
  for (size_t i = 0; i < x.size(); ++i) y.push_back((x[i] - mean) / std::sqrt(variance + eps) * w[i] + b[i]);
  return y;
}
inline double silu(double x) { return x / (1 + std::exp(-x)); }
inline double gelu(double x) { return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0))); }
inline double gelu_tanh(double x) {
  return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}
// Pairs (i, i + half) of each head of `dim` columns, by position * base^(-2 i / dim).
inline Row turned(const Row& x, int dim, int position, double base) {
  Row y = x;
  const int half = dim / 2;
  for (size_t at = 0; at < x.size(); at += static_cast<size_t>(dim)) {
    for (int i = 0; i < half; ++i) {
      const double angle = position * std::pow(base, -2.0 * i / dim);
      const size_t a = at + static_cast<size_t>(i), b = a + static_cast<size_t>(half);
      y[a] = x[a] * std::cos(angle) - x[b] * std::sin(angle);
      y[b] = x[b] * std::cos(angle) + x[a] * std::sin(angle);
    }
  }
  return y;
}
// Row i sees the keys for which sees(i, j); all heads as in `shape`.
inline Rows attend(const Rows& q, const Rows& k, const Rows& v, const attention::AttentionShape& shape,
                   const std::function<bool(int i, int j)>& sees) {
  Rows z(q.size(), Row(static_cast<size_t>(shape.n_heads * shape.v_dim)));
  for (size_t i = 0; i < q.size(); ++i) {
    for (int h = 0; h < shape.n_heads; ++h) {
      const auto q_at = static_cast<size_t>(h * shape.k_dim), z_at = static_cast<size_t>(h * shape.v_dim);
      const auto k_at = static_cast<size_t>(h / shape.group() * shape.k_dim);
      const auto v_at = static_cast<size_t>(h / shape.group() * shape.v_dim);
      Row weights(k.size());
      double sum = 0;
      for (size_t j = 0; j < k.size(); ++j) {
        if (!sees(static_cast<int>(i), static_cast<int>(j))) continue;
        double score = 0;
        for (size_t c = 0; c < static_cast<size_t>(shape.k_dim); ++c) score += q[i][q_at + c] * k[j][k_at + c];
        score *= shape.scale;
        if (shape.softcap > 0) score = shape.softcap * std::tanh(score / shape.softcap);
        sum += weights[j] = std::exp(score);
      }
      for (size_t j = 0; j < k.size(); ++j) {
        for (size_t c = 0; c < static_cast<size_t>(shape.v_dim); ++c)
          z[i][z_at + c] += weights[j] / sum * v[j][v_at + c];
      }
    }
  }
  return z;
}

inline void expect_near(const tensor::Tensor& found, const Rows& want, double tolerance) {
  ASSERT_EQ(found.dim(0), static_cast<int64_t>(want.size()));
  for (size_t i = 0; i < want.size(); ++i) {
    ASSERT_EQ(found.dim(1), static_cast<int64_t>(want[i].size()));
    for (size_t c = 0; c < want[i].size(); ++c)
      ASSERT_NEAR(found.data()[i * want[i].size() + c], want[i][c], tolerance) << "row " << i << ", column " << c;
  }
}

}  // namespace twin

}  // namespace fovea::models
