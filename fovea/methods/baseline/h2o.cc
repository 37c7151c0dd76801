// H2O: each KV head keeps the keys that all rows so far have looked at most, and the most recent; the rest leaves the
// cache at the end of a prompt and after each generated token.
// Zhang et al., "H2O: Heavy-Hitter Oracle for Efficient Generative Inference of Large Language Models",
// arXiv:2306.14048, sec. 4.
// Weights after softmax are added over the rows and the query heads of the group (the paper's code chooses for each
// query head). Rows of a prompt see all keys before them, and nothing leaves within a prompt: a budget holds from its
// end on. `by=mean` divides by the rows that could see a key: with `recent=0` that is ObservedAttentionPress of
// NVIDIA's kvpress.
// Not beside methods that drop keys within a prompt: what is looked at would depend on how the prompt is fed.
// Costs the attention of each row a second time and its scores a third, since the fused path shows no weights, and a
// float32 for each query head and live key, which are copied in each pass.
#include <algorithm>
#include <cmath>
#include <vector>

#include "fovea/attention/key_sums.h"
#include "fovea/attention/method.h"
#include "fovea/base/threads.h"

namespace fovea::attention {
namespace {

class H2o final : public Method {
 public:
  static constexpr MethodInfo kInfo{
      .name = "h2o",
      .title = "H2O",
      .paper = "arXiv:2306.14048, sec. 4",
      .stages = kChoose | kKeep,
      .summary = "the keys that all rows so far look at most, and the last ones; the rest leaves the cache",
      .neutral = "heavy=1",
      .example = "budget=8",
      .more_examples = "heavy=0.05:recent=0.05:by=mean",
      .excludes = "duo-attention moa streaming-llm",
      .budgets = "heavy=0.25:recent=0.25 heavy=0.125:recent=0.125"};
  const MethodInfo& info() const override { return kInfo; }

  void visit_knobs(KnobVisitor& knobs) override {
    knobs.add("heavy", heavy_, {.min = 0, .max = 1, .help = "share of the text: keys that are looked at most"});
    knobs.add("recent", recent_, {.min = 0, .max = 1, .help = "share of the text: last keys"});
    knobs.add("budget", budget_,
              {.min = 0, .max = 1 << 24, .help = "keys that stay, divided as heavy to recent; 0: shares of the text"});
    knobs.add("by", by_, {"sum", "mean"}, {.help = "of all rows, or of those that could see the key"});
  }
  Status bind(const ModelShape& model) override {
    if (heavy_ + recent_ == 0) return make_error(ErrorCode::kUsage, "h2o: heavy and recent are both 0");
    n_layers_ = static_cast<size_t>(model.n_layers);
    return {};
  }
  std::unique_ptr<SequenceState> begin_sequence() const override { return std::make_unique<Looked>(n_layers_); }

  // Chooses nothing: it is where the queries are seen.
  bool chooses(int) const override { return drops(); }
  void choose(const Call& call, const Queries& queries, KeyPlan&) const override {
    const std::span<const float> q = queries.turned.values();
    static_cast<Looked*>(call.state)->layers[static_cast<size_t>(call.layer)].q.assign(q.begin(), q.end());
  }

  void keep(const Call& call, KvCache& cache) const override {
    if (!drops()) return;
    Looked::OfLayer& looked = static_cast<Looked*>(call.state)->layers[static_cast<size_t>(call.layer)];
    const AttentionShape shape = call.model.site(call.layer);
    const int n_kv_heads = shape.n_kv_heads();
    looked.heads.resize(static_cast<size_t>(n_kv_heads));
    std::vector<std::vector<int32_t>> kept(looked.heads.size());
    pool().for_each(n_kv_heads, [&](int64_t kv, int) {
      AllSums& all = looked.heads[static_cast<size_t>(kv)];
      add_key_sums(cache, call.sequence, shape, call.layer, static_cast<int>(kv), looked.q.data(), call.q_pos, all);
      if (call.phase != Phase::kPrompt) kept[static_cast<size_t>(kv)] = best(all, call.q_pos.back() + 1, shape);
    });
    looked.q = {};
    for (int kv = 0; kv < n_kv_heads && call.phase != Phase::kPrompt; ++kv) {
      const std::vector<int32_t>& stay = kept[static_cast<size_t>(kv)];
      if (stay.size() < looked.heads[static_cast<size_t>(kv)].positions.size())
        retain_only(cache, call.sequence, call.layer, kv, stay);
    }
  }
  int64_t max_keys(int layer, int kv_head) const override {
    return budget_ > 0 ? budget_ : Method::max_keys(layer, kv_head);
  }

 private:
  enum By { kSum, kMean };
  struct Looked final : SequenceState {
    struct OfLayer {
      std::vector<float> q;        // [rows, n_heads, k_dim] of the call that runs
      std::vector<AllSums> heads;  // of each KV head
    };
    std::vector<OfLayer> layers;
    explicit Looked(size_t n_layers) : layers(n_layers) {}
    std::unique_ptr<SequenceState> clone() const override { return std::make_unique<Looked>(*this); }
    uint64_t bytes() const override {
      uint64_t sum = 0;
      for (const OfLayer& layer : layers) {
        for (const AllSums& head : layer.heads)
          sum += head.positions.size() * sizeof(int32_t) + head.sums.size() * sizeof(float);
      }
      return sum;
    }
  };

  bool drops() const { return budget_ > 0 || heavy_ + recent_ < 1; }
  // The positions that stay, rising: the last ones, and the highest of the others.
  std::vector<int32_t> best(const AllSums& all, int32_t n_text, const AttentionShape& shape) const {
    const double of_text = budget_ > 0 ? budget_ / (heavy_ + recent_) : n_text;
    const auto n_recent =
        static_cast<int64_t>(budget_ > 0 ? std::floor(recent_ * of_text) : std::ceil(recent_ * of_text));
    const auto n_heavy = budget_ > 0 ? budget_ - n_recent : static_cast<int64_t>(std::ceil(heavy_ * of_text));
    const std::vector<int32_t>& positions = all.positions;
    const size_t n = positions.size();
    if (static_cast<int64_t>(n) <= n_heavy + n_recent) return positions;
    const auto n_old = static_cast<size_t>(std::lower_bound(positions.begin(), positions.end(), n_text - n_recent) -
                                           positions.begin());
    std::vector<float> scores(n_old, 0.0f);
    for (size_t i = 0; i < n_old; ++i) {
      for (size_t g = 0; g < all.sums.size() / n; ++g) scores[i] += all.sums[g * n + i];
      if (by_ == kMean) scores[i] /= static_cast<float>(std::min(n_text - positions[i], shape.window));
    }
    std::vector<int32_t> stay = highest(std::span(positions).first(n_old), scores, static_cast<size_t>(n_heavy));
    stay.insert(stay.end(), positions.begin() + static_cast<ptrdiff_t>(n_old), positions.end());
    return stay;
  }

  double heavy_ = 0.1, recent_ = 0.1;
  int budget_ = 0, by_ = kSum;
  size_t n_layers_ = 0;
};
FOVEA_REGISTER_METHOD(H2o);

}  // namespace
}  // namespace fovea::attention
