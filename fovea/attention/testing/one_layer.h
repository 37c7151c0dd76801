// For tests: attention of one small model on made-up queries, keys and values under any pipeline,
// and its slow twin in plain loops with double sums.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "fovea/attention/attend.h"
#include "fovea/tensor/ops/attention/rope.h"

namespace fovea::attention {

class OneLayer {
 public:
  static ModelShape small_shape() {
    return {.n_layers = 2, .n_heads = 4, .n_kv_heads = 2, .head_dim = 16, .d_model = 64, .n_ctx = 1 << 16};
  }

  // Keys and values with their own numbers of heads.
  static ModelShape shape_of(int n_heads, int n_k_heads, int n_v_heads) {
    ModelShape shape = small_shape();
    shape.n_heads = n_heads, shape.n_kv_heads = std::max(n_k_heads, n_v_heads);
    AttentionShape site = shape.site(0);
    site.n_k_heads = n_k_heads, site.n_v_heads = n_v_heads;
    shape.attention.assign(2, site);
    return shape;
  }

  explicit OneLayer(std::string_view spec = "dense", kernels::KvType type = kernels::KvType::kF32,
                    const HeadProfile* profile = nullptr, const ModelShape& shape = small_shape())
      : cache(CacheShape::of(shape, type)), hooks(HookMap::decoder(shape)), shape_(shape) {
    shape_.profile = profile;
    for (int i = 0; i < shape_.head_dim; i += 2) rope_.inv_freq.push_back(static_cast<float>(std::pow(1e4, -i / 16.0)));
    auto parsed = Pipeline::parse(spec, shape_);
    EXPECT_TRUE(parsed.has_value()) << parsed.error().message;
    if (parsed) pipeline = std::move(parsed).value();
  }
  OneLayer(const OneLayer&) = delete;
  OneLayer& operator=(const OneLayer&) = delete;

  KvCache cache;
  Pipeline pipeline;
  Hooks hooks;
  std::vector<RowObserver*> observers;
  KeyCount keys;
  // What the token at a position holds: that of the position it gives.
  std::function<int32_t(int32_t position)> content = [](int32_t position) { return position; };

  int32_t n_prompt = 0;  // of SequenceContext, for every sequence

  // So many neighbouring heads hold the same keys, and the same values.
  int same_keys = 1, same_values = 1;
  tensor::Tensor sinks = {}, by_distance = {};  // of AttendInput

  const ModelShape& shape() const { return shape_; }
  const tensor::RopeTable& rope() const { return rope_; }
  void fork(SequenceId from, SequenceId to) {
    cache.fork(from, to);
    for (int layer = 0; layer < shape_.n_layers; ++layer) next_[{to, layer}] = next_[{from, layer}];
  }
  void truncate(SequenceId sequence, int32_t n) {
    cache.truncate(sequence, n);
    for (int layer = 0; layer < shape_.n_layers; ++layer) next_[{sequence, layer}] = n;
  }
  // Every layer becomes like this one (heads and widths stay what they are).
  void use(const std::function<void(AttentionShape&)>& change) {
    AttentionShape site = shape_.site(0);
    change(site);
    shape_.attention.assign(2, site);
  }

  // The next n tokens of a sequence through one layer -> z [n, n_heads, head_dim]. What a token
  // brings depends on its position, the layer and the sequence only.
  std::vector<float> feed(int n, bool decoding = false, SequenceId sequence = 0, int layer = 0) {
    int32_t& next = next_[{sequence, layer}];
    Batch batch;
    batch.add(std::vector<int32_t>(static_cast<size_t>(n), 0), next, sequence,
              decoding ? Phase::kDecode : Phase::kPrompt);
    next += n;
    return run(batch, layer);
  }
  std::vector<float> run(const Batch& batch, int layer) {
    const auto [q, k, v] = inputs(batch, layer);
    std::vector<SequenceContext> contexts;
    for (const SequenceId sequence : batch.sequences) {
      if (n_prompt > 0 && (contexts.empty() || contexts.back().sequence != sequence))
        contexts.push_back({.sequence = sequence, .pipeline = &pipeline, .n_prompt = n_prompt});
    }
    Attend attend({.model = shape_,
                   .ropes = {&rope_, 1},
                   .batch = batch,
                   .cache = &cache,
                   .pipeline = &pipeline,
                   .hooks = &hooks,
                   .observers = observers,
                   .sequences = contexts});
    const tensor::Tensor x = stream(batch, layer);
    const tensor::Tensor z = attend(layer, {q, k, v, x, x, sinks, by_distance});
    keys.seen += attend.key_count().seen;
    keys.dense += attend.key_count().dense;
    return {z.values().begin(), z.values().end()};
  }

  // What a batch brings to a layer: q, k and v [n, heads, head_dim].
  std::array<tensor::Tensor, 3> inputs(const Batch& batch, int layer) const {
    const int64_t n = batch.size();
    std::array<tensor::Tensor, 3> out = {tensor::Tensor::empty({n, shape_.n_heads, shape_.head_dim}),
                                         tensor::Tensor::empty({n, shape_.site(layer).n_k_heads, shape_.head_dim}),
                                         tensor::Tensor::empty({n, shape_.site(layer).n_v_heads, shape_.head_dim})};
    for (int what = 0; what < 3; ++what) {
      tensor::Tensor& t = out[static_cast<size_t>(what)];
      const auto heads = static_cast<int>(t.dim(1));
      for (int64_t i = 0; i < n; ++i) {
        const auto row = static_cast<size_t>(i);
        for (int h = 0; h < heads; ++h)
          fill(what, layer, batch.sequences[row], content(batch.positions[row]), h,
               t.data() + (i * heads + h) * shape_.head_dim);
      }
    }
    return out;
  }
  // The residual stream [n, d_model] that stands beside them; its normed form is the same.
  tensor::Tensor stream(const Batch& batch, int layer) const {
    tensor::Tensor x = tensor::Tensor::empty({batch.size(), shape_.d_model});
    for (int64_t i = 0; i < batch.size(); ++i) {
      const auto row = static_cast<size_t>(i);
      for (int head = 0; head * shape_.head_dim < shape_.d_model; ++head) {
        std::vector<float> part(static_cast<size_t>(shape_.head_dim));
        fill(3, layer, batch.sequences[row], content(batch.positions[row]), head, part.data());
        const int at = head * shape_.head_dim, n = std::min(shape_.head_dim, shape_.d_model - at);
        std::copy_n(part.data(), n, x.data() + i * shape_.d_model + at);
      }
    }
    return x;
  }
  // The same layer without the cache: every key comes from this batch, with gradients where there is a tape.
  tensor::Tensor without_cache(const Batch& batch, int layer, const std::array<tensor::Tensor, 3>& qkv) {
    Attend attend({.model = shape_, .ropes = {&rope_, 1}, .batch = batch, .pipeline = &pipeline, .hooks = &hooks});
    const tensor::Tensor x = stream(batch, layer);
    return attend(layer, {qkv[0], qkv[1], qkv[2], x, x, sinks, by_distance});
  }

  // The slow twin: z of one row and head over the positions for which `sees` holds.
  using Sees = std::function<bool(int32_t key)>;
  std::vector<double> pattern(int head, int32_t q_pos, const Sees& sees, SequenceId sequence = 0, int layer = 0) const {
    return pattern_at(
        head, q_pos, sees, [q_pos](int32_t) { return q_pos; }, sequence, layer);
  }
  // The same where the query stands at `stands(key)` for each key.
  std::vector<double> pattern_at(int head, int32_t q_pos, const Sees& sees,
                                 const std::function<int32_t(int32_t key)>& stands, SequenceId sequence = 0,
                                 int layer = 0) const {
    const AttentionShape site = shape_.site(layer);
    const int32_t last = site.causal ? q_pos : next_.at({sequence, layer}) - 1;
    std::vector<double> p(static_cast<size_t>(last) + 1, 0.0);
    double sum = 0;
    for (int32_t j = 0; j <= last; ++j) {
      if (!sees(j)) continue;
      const std::vector<float> q = rotated(0, layer, sequence, q_pos, head, stands(j));
      const std::vector<float> k = rotated(1, layer, sequence, j, head * site.n_k_heads / site.n_heads, j);
      double dot = 0;
      for (size_t d = 0; d < q.size(); ++d) dot += static_cast<double>(q[d]) * k[d];
      double score = dot * site.scale;
      if (site.softcap > 0) score = site.softcap * std::tanh(score / site.softcap);
      if (by_distance.defined()) {
        const auto width = static_cast<int32_t>(by_distance.dim(1)), far = width / 2;
        score += by_distance.data()[head * width + far + std::clamp(j - q_pos, -far, far)];
      }
      sum += p[static_cast<size_t>(j)] = std::exp(score);
    }
    if (sinks.defined()) sum += std::exp(static_cast<double>(sinks.data()[head]));
    for (double& x : p) x /= sum;
    return p;
  }
  std::vector<double> weighed(int head, const std::vector<double>& p, SequenceId sequence = 0, int layer = 0) const {
    std::vector<double> z(static_cast<size_t>(shape_.head_dim), 0.0);
    std::vector<float> v(z.size());
    const AttentionShape site = shape_.site(layer);
    for (size_t j = 0; j < p.size(); ++j) {
      fill(2, layer, sequence, static_cast<int32_t>(j), head * site.n_v_heads / site.n_heads, v.data());
      for (size_t d = 0; d < z.size(); ++d) z[d] += p[j] * v[d];
    }
    return z;
  }

  // One head's part of a row of z.
  std::vector<float> of_head(const std::vector<float>& z, int row, int head) const {
    const auto dim = static_cast<size_t>(shape_.head_dim);
    const size_t at =
        (static_cast<size_t>(row) * static_cast<size_t>(shape_.n_heads) + static_cast<size_t>(head)) * dim;
    return {z.begin() + static_cast<int64_t>(at), z.begin() + static_cast<int64_t>(at + dim)};
  }
  void expect_head(const std::vector<float>& z, int row, int head, const std::vector<double>& expected,
                   double tolerance = 1e-5) const {
    const std::vector<float> found = of_head(z, row, head);
    for (size_t d = 0; d < found.size(); ++d)
      EXPECT_NEAR(found[d], expected[d], tolerance) << "row " << row << " head " << head << " element " << d;
  }

 private:
  void fill(int what, int layer, SequenceId sequence, int32_t position, int head, float* to) const {
    if (what == 1 || what == 2) head /= what == 1 ? same_keys : same_values;
    const double phase = 2.1 * what + 1.3 * layer + 0.9 * sequence + 0.37 * position + 1.7 * head;
    for (int d = 0; d < shape_.head_dim; ++d)
      to[d] = static_cast<float>(1.5 * std::sin(phase + 0.61 * d * (head + 1) + 0.11 * position * d));
  }
  std::vector<float> rotated(int what, int layer, SequenceId sequence, int32_t position, int head,
                             int32_t stands) const {
    tensor::Tensor t = tensor::Tensor::empty({1, 1, shape_.head_dim});
    fill(what, layer, sequence, position, head, t.data());
    if (shape_.site(layer).rope == AttentionShape::kNoRope) return {t.values().begin(), t.values().end()};
    const std::vector<int32_t> positions = {stands};
    t = tensor::rope(t, positions, rope_);
    return {t.values().begin(), t.values().end()};
  }

  ModelShape shape_;
  tensor::RopeTable rope_;
  std::map<std::pair<SequenceId, int>, int32_t> next_;
};

// Collects the positions that one head's rows give weight to.
class SeenKeys final : public RowObserver {
 public:
  explicit SeenKeys(int head) : head_(head) {}
  bool wants(int, int head, bool) const override { return head == head_; }
  void see(const RowView& row, std::span<const float> pattern) override {
    std::vector<int32_t>& keys = of_row_[row.q_pos];
    for (size_t i = 0; i < pattern.size(); ++i) {
      if (pattern[i] > 0) keys.push_back(row.key_positions[i]);
    }
  }
  const std::vector<int32_t>& of_row(int32_t q_pos) { return of_row_[q_pos]; }

 private:
  int head_;
  std::map<int32_t, std::vector<int32_t>> of_row_;
};

}  // namespace fovea::attention
