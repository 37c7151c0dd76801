// RazorAttention: heads that look back at repeated text keep every key; of the others each keeps the first keys, a
// buffer of last ones, and one key that stands for all that it has dropped.
// Tang et al., "RazorAttention: Efficient KV Cache Compression Through Retrieval Heads", arXiv:2407.15891, sec. 4.
// The key and the value that stand for N dropped ones are their means, as they are cached (turned), and its score gets
// log N more: exact where the dropped keys are equal. A prompt is read with every key and compressed at its end; while
// decoding, the buffer of N / C keys moves on by one a token, and what leaves it joins the means (the paper's text does
// not say; the mean over all is the same). Heads are chosen by KV head, the maximum over its query heads, from the
// columns razor_induction and razor_echo of the profile, which are measured on the attention that the model has.
// Not done: the bound of distances for models with ALiBi.
#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "fovea/attention/method.h"
#include "fovea/attention/own_page.h"
#include "fovea/base/random.h"
#include "fovea/base/threads.h"

namespace fovea::attention {
namespace {

class RazorAttention final : public Method {
 public:
  static constexpr MethodInfo kInfo{
      .name = "razor-attention",
      .title = "RazorAttention",
      .paper = "arXiv:2407.15891, sec. 4",
      .stages = kChoose | kKeep,
      .needs =
          "razor_induction:protect=profile razor_echo:protect=profile razor_induction:protect=random "
          "razor_echo:protect=random",
      .summary = "heads that look back keep all keys, others a buffer and one key that stands for the rest",
      .neutral = "ratio=1:protect=heads",
      .example = "ratio=4:buffer=8:sinks=2:protect=heads:heads=0.1",
      .more_examples = "ratio=4:buffer=8:sinks=2:protect=heads:compensation=off",
      .excludes = "snapkv expected-attention h2o",
      .exceptions = "windows: a layer's own window leaves nothing to drop, sec. 4",
      .budgets = "ratio=4:buffer={0.1} ratio=8:buffer={0.1}"};
  const MethodInfo& info() const override { return kInfo; }

  void visit_knobs(KnobVisitor& knobs) override {
    knobs.add("ratio", ratio_, {.min = 1, .max = 1 << 20, .help = "C: the buffer is the text's length over this"});
    knobs.add("buffer", least_, {.min = 1, .max = 1 << 24, .help = "S0: and at least so many last keys"});
    knobs.add("sinks", n_sinks_, {.min = 0, .max = 1 << 20, .help = "N0: first keys, which stay"});
    knobs.add("protect", protect_, {"profile", "heads", "random"},
              {.help = "KV heads that keep every key: the profile's, those of `heads`, or as many drawn with `seed`"});
    knobs.add("induction", induction_,
              {.min = 0, .max = 1, .help = "share of the KV heads that razor_induction protects"});
    knobs.add("echo", echo_, {.min = 0, .max = 1, .help = "share of the KV heads that razor_echo protects"});
    knobs.add("heads", heads_, {.help = "query heads whose KV heads are protected: 3-9 (layers), 4.11, joined by +"});
    knobs.add("seed", seed_, {.min = 0, .help = "of random heads"});
    knobs.add("compensation", compensation_, {"on", "off", "unweighted"},
              {.help = "the key for what was dropped; unweighted: without log N"});
  }

  Status bind(const ModelShape& model) override {
    FOVEA_RETURN_IF_ERROR(heads_.check(model));
    const int n_kv = model.n_kv_heads, n_all = model.n_layers * n_kv;
    n_kv_heads_ = static_cast<size_t>(n_kv);
    n_layers_ = static_cast<size_t>(model.n_layers);
    std::vector<bool> whole(static_cast<size_t>(n_all), false);
    if (protect_ == kHeads) {
      for (int id = 0; id < n_all; ++id) {
        for (int g = 0; g < model.group(); ++g) {
          if (heads_.contains(id / n_kv, id % n_kv * model.group() + g)) whole[static_cast<size_t>(id)] = true;
        }
      }
    } else {
      FOVEA_RETURN_IF_ERROR(protect_best(model, "razor_induction", induction_, whole));
      FOVEA_RETURN_IF_ERROR(protect_best(model, "razor_echo", echo_, whole));
    }
    if (protect_ == kRandom) {
      Rng random(static_cast<uint64_t>(seed_));
      for (size_t i = whole.size(); i > 1; --i) {
        const size_t other = random.below(i);
        const bool mine = whole[i - 1];
        whole[i - 1] = whole[other], whole[other] = mine;
      }
    }
    protected_ = std::move(whole);
    return {};
  }
  std::unique_ptr<SequenceState> begin_sequence() const override {
    return std::make_unique<Dropped>(n_layers_ * n_kv_heads_);
  }

  bool chooses(int layer) const override {
    if (compensation_ == kOff || ratio_ == 1) return false;
    for (size_t kv = 0; kv < n_kv_heads_; ++kv) {
      if (!is_protected(layer, static_cast<int>(kv))) return true;
    }
    return false;
  }
  // The key that stands for the dropped ones is a part of its own, which every row sees.
  void choose(const Call& call, const Queries&, KeyPlan& plan) const override {
    auto& dropped = *static_cast<Dropped*>(call.state);
    for (int kv = 0; kv < plan.n_kv_heads(); ++kv) {
      if (is_protected(call.layer, kv)) continue;
      Dropped::Head& head = dropped.heads[at(call.layer, kv)];
      if (head.n == 0) continue;
      if (!head.page) head.page = page_of(head, call.model.site(call.layer), plan.layout());
      const KeyPlan::Page page{plan.add_page(kv, head.page->block())};
      for (int t = 0; t < plan.n_tiles(); ++t) {
        KeyPlan::Tile& tile = plan.tile(kv, t);
        KeyPlan::Part part{.pages = {page}, .rules = plan.rules(kv)};
        if (compensation_ == kOn) part.bias = static_cast<float>(std::log(static_cast<double>(head.n)));
        tile.parts.push_back(std::move(part));
      }
    }
  }

  void keep(const Call& call, KvCache& cache) const override {
    if (ratio_ == 1 || call.phase == Phase::kPrompt) return;
    const int32_t n_text = call.q_pos.back() + 1;
    const int32_t begin = n_sinks_, end = n_text - std::max(least_, n_text / ratio_);
    if (begin >= end) return;
    auto& dropped = *static_cast<Dropped*>(call.state);
    const auto drop = [&](int64_t kv, int) {
      if (is_protected(call.layer, static_cast<int>(kv))) return;
      Dropped::Head& head = dropped.heads[at(call.layer, static_cast<int>(kv))];
      add_dropped(cache, call, static_cast<int>(kv), begin, end, head);
    };
    if (call.decoding()) {
      for (int kv = 0; kv < static_cast<int>(n_kv_heads_); ++kv) drop(kv, 0);
    } else {
      pool().for_each(static_cast<int64_t>(n_kv_heads_), drop);
    }
    for (int kv = 0; kv < static_cast<int>(n_kv_heads_); ++kv) {
      if (!is_protected(call.layer, kv)) cache.drop(call.sequence, call.layer, kv, begin, end);
    }
  }

 private:
  enum Protect { kProfile, kHeads, kRandom };
  enum Compensation { kOn, kOff, kUnweighted };

  struct Dropped final : SequenceState {
    struct Head {
      int64_t n = 0;
      int32_t first = 0;         // position of the earliest, where the mean stands for rules: a layer's window hides it
      std::vector<double> k, v;  // sums
      std::shared_ptr<const OwnPage> page;  // their means; null: to be made
    };
    std::vector<Head> heads;  // [n_layers, n_kv_heads]
    explicit Dropped(size_t n_heads) : heads(n_heads) {}
    std::unique_ptr<SequenceState> clone() const override { return std::make_unique<Dropped>(*this); }
  };

  size_t at(int layer, int kv) const { return static_cast<size_t>(layer) * n_kv_heads_ + static_cast<size_t>(kv); }
  bool is_protected(int layer, int kv) const { return protected_[at(layer, kv)]; }

  // The share of KV heads with the highest values, the maximum over the query heads of each.
  static Status protect_best(const ModelShape& model, std::string_view column, double share, std::vector<bool>& whole) {
    const auto n = static_cast<size_t>(std::lround(share * static_cast<double>(whole.size())));
    FOVEA_ASSIGN_OR_RETURN(const std::vector<int> ranked, top_heads(model, column, model.n_layers * model.n_heads));
    std::vector<bool> taken(whole.size(), false);
    size_t n_taken = 0;
    for (const int head : ranked) {  // the first of a group is its maximum
      const auto kv = static_cast<size_t>(head / model.group());
      if (n_taken == n) break;
      if (!taken[kv]) taken[kv] = whole[kv] = true, ++n_taken;
    }
    return {};
  }

  static std::shared_ptr<const OwnPage> page_of(const Dropped::Head& head, const AttentionShape& shape,
                                                const KeyPlan::Layout& layout) {
    std::vector<float> k(static_cast<size_t>(shape.k_dim)), v(static_cast<size_t>(shape.v_dim));
    const auto n = static_cast<double>(head.n);
    for (size_t d = 0; d < k.size(); ++d) k[d] = static_cast<float>(head.k[d] / n);
    for (size_t d = 0; d < v.size(); ++d) v[d] = static_cast<float>(head.v[d] / n);
    auto page = std::make_shared<OwnPage>(layout);
    page->put(0, head.first, k, v);
    return page;
  }

  // Adds what the cache still holds at positions [begin, end).
  static void add_dropped(const KvCache& cache, const Call& call, int kv, int32_t begin, int32_t end,
                          Dropped::Head& head) {
    const CacheShape& shape = cache.shape();
    const CacheShape::Layer& layer = shape.layer(call.layer);
    std::vector<float> k(static_cast<size_t>(layer.k_dim)), v(static_cast<size_t>(layer.v_dim));
    head.k.resize(k.size()), head.v.resize(v.size());
    for (const KeyBlock& page : cache.blocks(call.sequence, call.layer, kv)) {
      for (int slot = 0; slot < kernels::kPageKeys; ++slot) {
        const int32_t position = page.positions[slot];
        if (position < begin || position >= end) continue;
        kernels::key_read(page.k, shape.k_type, layer.k_dim, slot, k.data());
        kernels::value_read(page.v, shape.v_type, layer.v_dim, slot, v.data());
        for (size_t d = 0; d < k.size(); ++d) head.k[d] += static_cast<double>(k[d]);
        for (size_t d = 0; d < v.size(); ++d) head.v[d] += static_cast<double>(v[d]);
        if (head.n++ == 0) head.first = position;
        head.page = nullptr;
      }
    }
  }

  int ratio_ = 5, least_ = 4000, n_sinks_ = 4, protect_ = kProfile, seed_ = 0, compensation_ = kOn;
  double induction_ = 0.14, echo_ = 0.01;
  HeadSet heads_ = HeadSet::none();
  size_t n_layers_ = 0, n_kv_heads_ = 0;
  std::vector<bool> protected_;  // [n_layers, n_kv_heads]
};
FOVEA_REGISTER_METHOD(RazorAttention);

}  // namespace
}  // namespace fovea::attention
