// Expected Attention: at the end of a prompt each KV head keeps the keys that the rows to come are expected to look at.
// Devoto et al., "Expected Attention: KV Cache Compression by Estimating Attention from Future Queries Distribution",
// arXiv:2510.00636, sec. 3; as NVIDIA's kvpress has it.
// The queries so far, as projected, are taken for draws of one Gaussian; turned by the mean of the rotations of the
// next `n_future` positions it says what exp(q.k) is on average: exp(mean.k + k cov k / 2). Those weights, averaged
// over the group's query heads and multiplied with the size of the value, order the keys. What stays is counted of the
// whole text, so that the prompts of a conversation take no share of a share. Not beside methods that drop keys within
// a prompt: which of its keys are there would depend on how it is fed.
#include <algorithm>
#include <cmath>
#include <vector>

#include "fovea/attention/key_sums.h"
#include "fovea/attention/method.h"
#include "fovea/base/threads.h"
#include "fovea/kernels/sgemm.h"
#include "fovea/kernels/vector.h"

namespace fovea::attention {
namespace {

class ExpectedAttention final : public Method {
 public:
  static constexpr MethodInfo kInfo{
      .name = "expected-attention",
      .title = "Expected Attention",
      .paper = "arXiv:2510.00636, sec. 3",
      .stages = kChoose | kKeep,
      .summary = "after a prompt, the keys that later rows are expected to look at; the rest leaves the cache",
      .neutral = "keep=1",
      .example = "keep=0.05:n_sink=1:n_future=8",
      .more_examples = "budget=8:n_sink=1:n_future=8:covariance=off:value_norm=off",
      .excludes = "duo-attention moa streaming-llm",
      .budgets = "keep=0.5 keep=0.25 keep=0.1",
      .pair = "keep=0.25"};
  const MethodInfo& info() const override { return kInfo; }

  void visit_knobs(KnobVisitor& knobs) override {
    knobs.add("keep", keep_, {.min = 0, .max = 1, .help = "share of the text's keys that stays"});
    knobs.add("budget", budget_, {.min = 0, .max = 1 << 24, .help = "keys that stay; 0: by `keep`"});
    knobs.add("n_sink", n_sink_,
              {.min = 0, .max = 1 << 24, .help = "first keys: always kept, and no draws of queries"});
    knobs.add("n_future", n_future_, {.min = 1, .max = 1 << 16, .help = "positions to come that are averaged over"});
    knobs.add("covariance", covariance_, {.help = "count how queries vary, not their mean alone"});
    knobs.add("value_norm", value_norm_, {.help = "multiply with the size of the value"});
  }
  Status bind(const ModelShape& model) override {
    n_layers_ = static_cast<size_t>(model.n_layers);
    return {};
  }
  std::unique_ptr<SequenceState> begin_sequence() const override { return std::make_unique<Seen>(n_layers_); }

  // Chooses nothing: it is where the queries are seen.
  bool chooses(int) const override { return drops(); }
  void choose(const Call& call, const Queries& queries, KeyPlan&) const override {
    if (call.decoding()) return;
    const AttentionShape shape = call.model.site(call.layer);
    const auto d = static_cast<size_t>(shape.k_dim), n_heads = static_cast<size_t>(shape.n_heads), row = n_heads * d;
    Moments& seen = static_cast<Seen*>(call.state)->layers[static_cast<size_t>(call.layer)];
    if (seen.sum.empty()) seen.sum.assign(row, 0.0), seen.products.assign(n_heads * d * d, 0.0f);
    const auto first =
        static_cast<size_t>(std::lower_bound(call.q_pos.begin(), call.q_pos.end(), n_sink_) - call.q_pos.begin());
    const size_t n = call.q_pos.size() - first;
    if (n == 0) return;
    const float* q = queries.plain.data() + first * row;
    for (size_t i = 0; i < n; ++i) {
      for (size_t j = 0; j < row; ++j) seen.sum[j] += static_cast<double>(q[i * row + j]);
    }
    for (size_t head = 0; head < n_heads && covariance_; ++head) {
      kernels::sgemm({.m = shape.k_dim,
                      .n = shape.k_dim,
                      .k = static_cast<int64_t>(n),
                      .a = q + head * d,
                      .ld_a = static_cast<int64_t>(row),
                      .a_transposed = true,
                      .b = q + head * d,
                      .ld_b = static_cast<int64_t>(row),
                      .c = seen.products.data() + head * d * d,
                      .ld_c = shape.k_dim,
                      .accumulate = true});
    }
    seen.n += static_cast<int64_t>(n);
  }

  void keep(const Call& call, KvCache& cache) const override {
    if (call.phase != Phase::kPromptEnd || !drops()) return;
    const Moments& seen = static_cast<Seen*>(call.state)->layers[static_cast<size_t>(call.layer)];
    if (seen.n == 0) return;  // sinks only
    const AttentionShape shape = call.model.site(call.layer);
    const int32_t n_text = call.q_pos.back() + 1;
    const size_t n_stay = n_kept(keep_, budget_, n_text);
    const Expected expected = expect(seen, shape, call.rope, n_text);
    for (int kv = 0; kv < shape.n_kv_heads(); ++kv) {
      const std::vector<int32_t> positions = cache.positions(call.sequence, call.layer, kv);
      const auto n_sinks =
          static_cast<size_t>(std::lower_bound(positions.begin(), positions.end(), n_sink_) - positions.begin());
      if (positions.size() <= n_stay || positions.size() == n_sinks) continue;
      const std::vector<float> scores = score(cache, call, shape, kv, n_sinks, expected);
      const std::span<const int32_t> others = std::span(positions).subspan(n_sinks);
      const std::vector<int32_t> best = highest(others, scores, n_stay > n_sinks ? n_stay - n_sinks : 0);
      std::vector<int32_t> stay(positions.begin(), positions.begin() + static_cast<ptrdiff_t>(n_sinks));
      stay.insert(stay.end(), best.begin(), best.end());
      retain_only(cache, call.sequence, call.layer, kv, stay);
    }
  }

 private:
  struct Moments {  // of the queries as projected, past the sinks
    int64_t n = 0;
    std::vector<double> sum;      // [n_heads, k_dim]
    std::vector<float> products;  // [n_heads, k_dim, k_dim]
  };
  struct Seen final : SequenceState {
    std::vector<Moments> layers;
    explicit Seen(size_t n_layers) : layers(n_layers) {}
    std::unique_ptr<SequenceState> clone() const override { return std::make_unique<Seen>(*this); }
  };
  struct Expected {                 // the Gaussian of a query to come, times the scale of scores
    std::vector<float> mean;        // [n_heads, k_dim]
    std::vector<float> covariance;  // [n_heads, k_dim, k_dim], halved
  };

  bool drops() const { return budget_ > 0 || keep_ < 1; }

  // The mean rotation of the positions to come: row j of the matrix is what becomes of unit vector j, [d, d].
  std::vector<double> mean_rotation(int d, const tensor::RopeTable* rope, int32_t first) const {
    const auto size = static_cast<size_t>(d);
    std::vector<double> out(size * size, 0.0);
    if (!rope) {
      for (size_t j = 0; j < size; ++j) out[j * size + j] = 1;
      return out;
    }
    constexpr int32_t kAtOnce = 16;  // positions
    for (int32_t begin = 0; begin < n_future_; begin += kAtOnce) {
      std::vector<int32_t> positions;
      for (int32_t i = begin; i < std::min(n_future_, begin + kAtOnce); ++i) positions.push_back(first + i);
      tensor::Tensor units = tensor::Tensor::zeros({static_cast<int64_t>(positions.size()), d, d});
      for (size_t i = 0; i < positions.size(); ++i) {
        for (size_t j = 0; j < size; ++j) units.data()[(i * size + j) * size + j] = 1;
      }
      const tensor::Tensor turned = tensor::rope(units, positions, *rope);
      for (size_t i = 0; i < turned.values().size(); ++i)
        out[i % (size * size)] += static_cast<double>(turned.values()[i]) / n_future_;
    }
    return out;
  }

  Expected expect(const Moments& seen, const AttentionShape& shape, const tensor::RopeTable* rope,
                  int32_t first) const {
    const auto d = static_cast<size_t>(shape.k_dim);
    const std::vector<double> rotation = mean_rotation(shape.k_dim, rope, first);
    struct Entry {  // one or two of a column are not 0
      size_t from, to;
      double by;
    };
    std::vector<Entry> entries;
    for (size_t i = 0; i < rotation.size(); ++i) {
      if (rotation[i] != 0) entries.push_back({i / d, i % d, rotation[i]});
    }
    const auto n = static_cast<double>(seen.n), scale = static_cast<double>(shape.scale);
    Expected out{std::vector<float>(seen.sum.size()), std::vector<float>(covariance_ ? seen.products.size() : 0)};
    pool().for_each(shape.n_heads, [&](int64_t head, int) {
      const double* sum = seen.sum.data() + static_cast<size_t>(head) * d;
      std::vector<double> mean(d, 0.0);
      for (const Entry& e : entries) mean[e.to] += e.by * sum[e.from] / n;
      for (size_t i = 0; i < d; ++i) out.mean[static_cast<size_t>(head) * d + i] = static_cast<float>(mean[i] * scale);
      if (!covariance_) return;
      const float* products = seen.products.data() + static_cast<size_t>(head) * d * d;
      std::vector<double> half(d * d, 0.0), whole(d * d, 0.0);  // of both sides, one is turned; both are
      for (const Entry& e : entries) {
        for (size_t j = 0; j < d; ++j)
          half[e.to * d + j] +=
              e.by * (static_cast<double>(products[e.from * d + j]) / n - sum[e.from] / n * sum[j] / n);
      }
      for (const Entry& e : entries) {
        for (size_t i = 0; i < d; ++i) whole[i * d + e.to] += e.by * half[i * d + e.from];
      }
      for (size_t i = 0; i < d * d; ++i)
        out.covariance[static_cast<size_t>(head) * d * d + i] = static_cast<float>(whole[i] * scale * scale / 2);
    });
    return out;
  }

  // Of the live keys of a KV head past the sinks, in order.
  std::vector<float> score(const KvCache& cache, const Call& call, const AttentionShape& shape, int kv, size_t n_sinks,
                           const Expected& expected) const {
    const std::span<const KeyBlock> blocks = cache.blocks(call.sequence, call.layer, kv);
    const auto d = static_cast<size_t>(shape.k_dim), v_dim = static_cast<size_t>(shape.v_dim);
    std::vector<std::pair<const KeyBlock*, int>> slots;
    for (const KeyBlock& block : blocks) {
      for (int slot = 0; slot < kernels::kPageKeys; ++slot) {
        if (block.positions[slot] != kernels::kNoPosition) slots.push_back({&block, slot});
      }
    }
    slots.erase(slots.begin(), slots.begin() + static_cast<ptrdiff_t>(n_sinks));
    const size_t n = slots.size();
    std::vector<float> keys(n * d), varied(covariance_ ? n * d : 0), weights(n), scores(n, 0.0f), sizes(n, 1.0f);
    const auto each = [n](const auto& fn) {  // in parallel
      constexpr size_t kTask = 256;
      pool().for_each(static_cast<int64_t>((n + kTask - 1) / kTask), [&](int64_t task, int) {
        for (size_t i = static_cast<size_t>(task) * kTask; i < std::min(n, (static_cast<size_t>(task) + 1) * kTask);
             ++i)
          fn(i);
      });
    };
    each([&](size_t i) {
      const auto [block, slot] = slots[i];
      kernels::key_read(block->k, cache.shape().k_type, shape.k_dim, slot, keys.data() + i * d);
      if (!value_norm_) return;
      std::vector<float> value(v_dim);
      kernels::value_read(block->v, cache.shape().v_type, shape.v_dim, slot, value.data());
      double sum = 0;
      for (const float x : value) sum += static_cast<double>(x) * static_cast<double>(x);
      sizes[i] = static_cast<float>(std::sqrt(sum));
    });
    for (int g = 0; g < shape.group(); ++g) {
      const auto head = static_cast<size_t>(kv * shape.group() + g);
      if (covariance_) {
        kernels::sgemm({.m = static_cast<int64_t>(n),
                        .n = shape.k_dim,
                        .k = shape.k_dim,
                        .a = keys.data(),
                        .ld_a = shape.k_dim,
                        .b = expected.covariance.data() + head * d * d,
                        .ld_b = shape.k_dim,
                        .c = varied.data(),
                        .ld_c = shape.k_dim});
      }
      each([&](size_t i) {
        const float* key = keys.data() + i * d;
        weights[i] = kernels::dot(key, expected.mean.data() + head * d, shape.k_dim);
        if (covariance_) weights[i] += kernels::dot(key, varied.data() + i * d, shape.k_dim);
      });
      const float lse = kernels::log_sum_exp(weights.data(), static_cast<int64_t>(n));
      for (size_t i = 0; i < n; ++i) scores[i] += std::exp(weights[i] - lse);
    }
    for (size_t i = 0; i < n; ++i) scores[i] *= sizes[i] / static_cast<float>(shape.group());
    return scores;
  }

  double keep_ = 0.5;
  int budget_ = 0, n_sink_ = 4, n_future_ = 512;
  bool covariance_ = true, value_norm_ = true;
  size_t n_layers_ = 0;
};
FOVEA_REGISTER_METHOD(ExpectedAttention);

}  // namespace
}  // namespace fovea::attention
