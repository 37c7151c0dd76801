// TokenSelect: before each attention all heads of a layer vote, by q.k of every key, for the keys that they read; rows
// see the first keys, those voted for and the last ones, at positions that stay inside what the model was trained for.
// Wu et al., "TokenSelect: Efficient Long-Context Inference and Length Extrapolation for LLMs via Dynamic Token-Level
// KV Cache Selection", arXiv:2411.02886, sec. 4. Keys vote as they are before they are turned: copies of them stay
// beside the cache, half of its bytes again. Voted keys are gathered, turned to their places in the list, on pages of
// the method's own; the first and last keys are read where they lie, by queries turned to the end of the list. While
// decoding the last selection is used again as long as the queries stay close to those that made it. A KV head that has
// lost keys to another method, or has a rule, neither votes nor selects. Where a prompt's chunk is longer than n_local,
// its own keys are the last ones. Differs: query heads are mapped to their KV head as the models have them (the
// authors' kernel takes h mod n_kv_heads).
#include <algorithm>
#include <climits>
#include <cmath>
#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#include "fovea/attention/key_sums.h"
#include "fovea/attention/method.h"
#include "fovea/attention/own_page.h"
#include "fovea/base/random.h"
#include "fovea/base/threads.h"
#include "fovea/kernels/vector.h"
#include "fovea/tensor/scratch.h"

namespace fovea::attention {
namespace {

using kernels::kPageKeys;

class TokenSelect final : public Method {
 public:
  static constexpr MethodInfo kInfo{
      .name = "token-select",
      .title = "TokenSelect",
      .paper = "arXiv:2411.02886, sec. 4",
      .stages = kInputs | kChoose,
      .summary =
          "heads vote for the keys that a layer reads, at compacted positions: for texts past the trained length",
      .neutral = "top_k=16777216",
      .example = "n_init=2:n_local=8:top_k=6:chunk=8",
      .more_examples =
          "n_init=0:n_local=8:top_k=6:chunk=8:positions=original:vote=sum:score_rope=true "
          "n_init=2:n_local=8:top_k=6:chunk=8:theta=2:vote=kv-head:pool=3:score_rope=none",
      .excludes = "quest streaming-llm snapkv h2o expected-attention",
      .exceptions =
          "causal: the queries of a chunk choose together, sec. 4.2;chunks: likewise, sec. 4.2;gradient: what "
          "is gathered is constant, sec. 4.3;windows: past a layer's own window it reads that, sec. 4",
      .budgets = "top_k={0.25}:n_local={0.1} top_k={0.1}:n_local={0.05}",
      .past_window = "score_rope=true"};
  const MethodInfo& info() const override { return kInfo; }

  void visit_knobs(KnobVisitor& knobs) override {
    knobs.add("n_init", n_init_, {.min = 0, .max = 1 << 20, .help = "first keys, always read"});
    knobs.add("n_local", n_local_, {.min = 1, .max = 1 << 20, .help = "last keys, always read"});
    knobs.add("top_k", top_k_, {.min = 1, .max = 1 << 24, .help = "keys that are voted for"});
    knobs.add("chunk", chunk_, {.min = 1, .max = 1 << 16, .help = "rows of a prompt that share a selection, at most"});
    knobs.add("theta", theta_,
              {.min = -1,
               .max = 2,
               .help = "cosine of the queries from which on a generated token reuses the selection; above 1: never"});
    knobs.add("pool", pool_, {.min = 1, .max = 255, .help = "neighbouring keys whose highest vote counts; odd"});
    knobs.add("vote", vote_, {"soft", "sum", "kv-head", "random"},
              {.help = "sum of softmaxes over all heads, of scores, softmaxes for each KV head, or none: a control"});
    knobs.add("positions", positions_, {"compacted", "original"}, {.help = "where selected keys seem to stand"});
    knobs.add("score_rope", score_rope_, {"local", "none", "true"},
              {.help = "queries vote as if n_local behind every key, beside it, or where both are"});
    knobs.add("seed", seed_, {.min = 0, .help = "of random votes"});
  }
  Status bind(const ModelShape& model) override {
    if (pool_ % 2 == 0) return make_error(ErrorCode::kUsage, "token-select: pool {} is even, it must be odd", pool_);
    n_layers_ = static_cast<size_t>(model.n_layers);
    return {};
  }
  std::unique_ptr<SequenceState> begin_sequence() const override { return std::make_unique<Selected>(n_layers_); }
  int64_t reach() const override {
    return positions_ == kCompacted ? int64_t{n_init_} + top_k_ + std::max(n_local_, chunk_) : Method::reach();
  }

  bool edits_inputs(int) const override { return selects(); }
  void edit_inputs(const Call& call, Inputs& in) const override { layer_of(call).fresh = in.k; }

  bool chooses(int) const override { return selects(); }
  void choose(const Call& call, const Queries& queries, KeyPlan& plan) const override {
    Selected::Layer& mine = layer_of(call);
    store(call, plan, mine);
    mine.read.clear();
    if (!call.decoding()) mine.last = nullptr;
    std::vector<Group> groups = groups_of(call);
    for (const Group& group : groups) plan.cut(group.begin);
    std::vector<int32_t> compact(call.q_pos.begin(), call.q_pos.end());
    for (Group& group : groups) {
      group.selection = select(call, queries, plan, group, mine);
      if (!group.selection) continue;
      mine.read.push_back(group.selection);
      for (int64_t row = group.begin; row < group.end && positions_ == kCompacted; ++row)
        compact[static_cast<size_t>(row)] += size_of(group) - group.n_keys;
    }
    if (mine.read.empty()) return;
    const int turn = positions_ == kCompacted ? plan.turn(std::move(compact)) : 0;
    for (const Group& group : groups) {
      if (!group.selection) continue;
      for (int kv = 0; kv < plan.n_kv_heads(); ++kv) {
        const auto& pages = group.selection->pages[static_cast<size_t>(kv)];
        if (pages.empty()) continue;
        std::vector<KeyPlan::Page> added;
        for (const auto& page : pages) added.push_back({plan.add_page(kv, page->block())});
        for (int t = 0; t < plan.n_tiles(); ++t) {
          if (plan.first_row(t) >= group.begin && plan.first_row(t) < group.end)
            narrow(plan, kv, group, added, turn, plan.tile(kv, t));
        }
      }
    }
  }

 private:
  enum Vote { kSoft, kSum, kKvHead, kRandom };
  enum Positions { kCompacted, kOriginal };
  enum ScoreRope { kLocal, kNone, kTrue };
  using Pages = std::vector<std::shared_ptr<const OwnPage>>;

  // What rows read between the first and the last keys.
  struct Selection {
    std::vector<float> q;      // [n_heads, k_dim] that voted
    int32_t made_at = 0;       // position of the last of their rows
    std::vector<Pages> pages;  // of each KV head; none: it reads all its keys
  };
  struct Selected final : SequenceState {
    struct Keys {  // before they are turned, in order of position
      std::shared_ptr<const Pages> full = std::make_shared<Pages>();
      std::shared_ptr<OwnPage> last;  // of this state alone once it was written to
    };
    struct Layer {
      tensor::Tensor fresh;                                // k of the call that runs
      std::vector<Keys> keys;                              // of each KV head
      int32_t n_keys = 0, window = INT32_MAX;              // a text past the layer's window has none
      std::shared_ptr<const Selection> last;               // of the token generated last
      std::vector<std::shared_ptr<const Selection>> read;  // by the call that runs
    };
    std::vector<Layer> layers;
    KnownTurns turns;
    explicit Selected(size_t n_layers) : layers(n_layers) {}
    std::unique_ptr<SequenceState> clone() const override { return std::make_unique<Selected>(*this); }
    uint64_t bytes() const override {
      uint64_t sum = 0;
      const auto add = [&sum](const Pages& pages) {
        for (const auto& page : pages) sum += page->bytes();
      };
      for (const Layer& layer : layers) {
        for (const Keys& keys : layer.keys) add(*keys.full), sum += keys.last ? keys.last->bytes() : 0;
        if (layer.last) std::for_each(layer.last->pages.begin(), layer.last->pages.end(), add);
      }
      return sum;
    }
    bool can_truncate(int32_t n_tokens) const override {
      return std::all_of(layers.begin(), layers.end(), [&](const Layer& layer) {
        return (!layer.last || layer.last->made_at < n_tokens) &&
               (layer.n_keys <= layer.window || n_tokens > layer.window);
      });
    }
    void truncate(int32_t n_tokens) override {
      for (Layer& layer : layers) {
        layer.n_keys = std::min(layer.n_keys, n_tokens);
        const auto n_full = static_cast<size_t>(layer.n_keys / kPageKeys);
        for (Keys& keys : layer.keys) {
          if (keys.full->size() <= n_full) continue;
          keys.last = std::make_shared<OwnPage>(*(*keys.full)[n_full]);
          keys.full = std::make_shared<Pages>(keys.full->begin(), keys.full->begin() + static_cast<ptrdiff_t>(n_full));
        }
      }
    }
  };
  struct Group {  // rows of a call that share a selection
    int64_t begin, end;
    int32_t n_keys, n_local;  // up to the last of them; of those the last ones, which are read as they are
    std::shared_ptr<const Selection> selection = {};
  };

  bool selects() const { return top_k_ < 1 << 24; }
  static Selected::Layer& layer_of(const Call& call) {
    return static_cast<Selected*>(call.state)->layers[static_cast<size_t>(call.layer)];
  }
  int32_t size_of(const Group& group) const { return n_init_ + top_k_ + group.n_local; }

  std::vector<Group> groups_of(const Call& call) const {
    std::vector<Group> groups;
    const auto n = static_cast<int64_t>(call.q_pos.size());
    for (int64_t begin = 0, end; begin < n; begin = end) {
      const int32_t first = call.q_pos[static_cast<size_t>(begin)];
      end = begin + 1;
      while (!call.decoding() && end < n && call.q_pos[static_cast<size_t>(end)] / chunk_ == first / chunk_) ++end;
      groups.push_back({begin, end, call.q_pos[static_cast<size_t>(end - 1)] + 1,
                        std::max(n_local_, static_cast<int32_t>(end - begin))});
    }
    return groups;
  }

  static void store(const Call& call, const KeyPlan& plan, Selected::Layer& mine) {
    const AttentionShape shape = call.model.site(call.layer);
    const tensor::Tensor k = std::exchange(mine.fresh, {});
    FOVEA_CHECK(mine.n_keys == call.q_pos.front(), "token-select: position {} follows {} keys", call.q_pos.front(),
                mine.n_keys);
    mine.n_keys = call.q_pos.back() + 1;
    mine.window = shape.window;
    if (mine.n_keys > mine.window) return mine.keys.clear();
    mine.keys.resize(static_cast<size_t>(plan.n_kv_heads()));
    KeyPlan::Layout layout = plan.layout();
    layout.v_dim = 0;
    pool().for_each(plan.n_kv_heads(), [&](int64_t kv, int) {
      Selected::Keys& keys = mine.keys[static_cast<size_t>(kv)];
      if (keys.last) keys.last = std::make_shared<OwnPage>(*keys.last);  // what a copy of the state has stays
      std::shared_ptr<Pages> full;
      const float* from = k.data() + kv * shape.n_k_heads / shape.n_kv_heads() * shape.k_dim;
      for (size_t row = 0; row < call.q_pos.size(); ++row, from += k.dim(1) * k.dim(2)) {
        const int32_t position = call.q_pos[row];
        if (position % kPageKeys == 0) keys.last = std::make_shared<OwnPage>(layout);
        keys.last->put(position % kPageKeys, position, {from, static_cast<size_t>(shape.k_dim)},
                       std::span<const float>());
        if ((position + 1) % kPageKeys != 0) continue;
        if (!full) full = std::make_shared<Pages>(*keys.full);
        full->push_back(keys.last);
      }
      if (full) keys.full = std::move(full);
    });
  }

  // Null where all keys fit.
  std::shared_ptr<const Selection> select(const Call& call, const Queries& queries, const KeyPlan& plan,
                                          const Group& group, Selected::Layer& mine) const {
    if (size_of(group) >= group.n_keys || mine.keys.empty()) return nullptr;
    auto made = std::make_shared<Selection>();
    made->q = mean_queries(call, queries, group);
    if (call.decoding() && mine.last && cosine(mine.last->q, made->q) >= theta_) return mine.last;
    made->made_at = group.n_keys - 1;
    const auto n_kv = static_cast<size_t>(plan.n_kv_heads());
    std::vector<std::vector<int32_t>> slots(n_kv);  // of each position in the cache; none: the head takes no part
    std::vector<std::vector<float>> votes(n_kv);
    pool().for_each(plan.n_kv_heads(), [&](int64_t index, int) {
      const auto kv = static_cast<size_t>(index);
      slots[kv] = whole_cache(plan, static_cast<int>(kv), group.n_keys);
      if (!slots[kv].empty()) votes[kv] = votes_of(call, plan, group, static_cast<int>(kv), made->q, mine.keys[kv]);
    });
    if (vote_ != kKvHead) {
      std::vector<float> all(static_cast<size_t>(group.n_keys - group.n_local - n_init_), 0.0f);
      for (const std::vector<float>& of_head : votes) {
        for (size_t j = 0; j < of_head.size(); ++j) all[j] += of_head[j];
      }
      std::fill(votes.begin(), votes.end(), std::vector<float>());
      votes[0] = std::move(all);
    }
    std::vector<std::vector<int32_t>> chosen(n_kv);
    for (size_t kv = 0; kv < n_kv; ++kv) {
      if (slots[kv].empty()) continue;
      chosen[kv] =
          vote_ == kKvHead || kv == 0 || chosen[0].empty() ? best(votes[vote_ == kKvHead ? kv : 0]) : chosen[0];
    }
    const KeyTurns* turns = positions_ == kOriginal ? nullptr : static_cast<Selected*>(call.state)->turns.of(call.rope);
    made->pages.resize(n_kv);
    pool().for_each(plan.n_kv_heads(), [&](int64_t index, int) {
      const auto kv = static_cast<size_t>(index);
      if (!slots[kv].empty())
        made->pages[kv] = gather(call, plan, static_cast<int>(kv), chosen[kv], slots[kv], turns, mine.keys[kv]);
    });
    if (call.decoding()) mine.last = made;
    return made;
  }

  // The mean over the group's rows, each turned as it votes.
  std::vector<float> mean_queries(const Call& call, const Queries& queries, const Group& group) const {
    const tensor::Tensor& from = score_rope_ == kTrue ? queries.turned : queries.plain;
    tensor::Tensor q = from;
    if (score_rope_ == kLocal && call.rope) {
      std::vector<int32_t> behind(call.q_pos.size(), 0);
      for (int64_t row = group.begin; row < group.end; ++row)
        behind[static_cast<size_t>(row)] = n_local_ + static_cast<int32_t>(row - group.begin);
      q = tensor::rope(from, behind, *call.rope);
    }
    const auto width = static_cast<size_t>(q.dim(1) * q.dim(2));
    std::vector<float> mean(width, 0.0f);
    const auto n = static_cast<float>(group.end - group.begin);
    for (int64_t row = group.begin; row < group.end; ++row)
      kernels::axpy(static_cast<int64_t>(width), 1.0f / n, q.data() + row * static_cast<int64_t>(width), mean.data());
    return mean;
  }
  static double cosine(const std::vector<float>& a, const std::vector<float>& b) {
    const auto n = static_cast<int64_t>(a.size());
    const auto product = [n](const std::vector<float>& x, const std::vector<float>& y) {
      return static_cast<double>(kernels::dot(x.data(), y.data(), n));
    };
    return product(a, b) / std::sqrt(product(a, a) * product(b, b));
  }

  // Where the head's key at each position lies, page * kPageKeys + slot; nothing if one of the first n is missing, or
  // rows do not see them all.
  static std::vector<int32_t> whole_cache(const KeyPlan& plan, int kv, int32_t n) {
    const auto sees_all = [n](const KeyRule& rule) { return rule.window >= n; };
    if (plan.touched(kv) && plan.tile(kv, 0).parts.size() != 1) return {};
    if (!std::all_of(plan.rules(kv).begin(), plan.rules(kv).end(), sees_all)) return {};
    std::vector<int32_t> slots(static_cast<size_t>(n), -1);
    int32_t at = 0, found = 0;
    for (const KeyBlock& page : plan.pages(kv)) {
      for (int slot = 0; slot < kPageKeys; ++slot, ++at) {
        const int32_t position = page.positions[slot];
        if (position < n) slots[static_cast<size_t>(position)] = at, ++found;
      }
    }
    return found == n ? slots : std::vector<int32_t>();
  }

  // Of each key between the first and the last ones, summed over the group's query heads.
  std::vector<float> votes_of(const Call& call, const KeyPlan& plan, const Group& group, int kv,
                              const std::vector<float>& q, const Selected::Keys& keys) const {
    const AttentionShape shape = call.model.site(call.layer);
    const int32_t end = group.n_keys - group.n_local;
    const auto n = static_cast<int64_t>(end - n_init_);
    std::vector<float> votes(static_cast<size_t>(n), 0.0f);
    if (vote_ == kRandom) {
      Rng random(static_cast<uint64_t>(seed_) + static_cast<uint64_t>(call.layer) * 7919 +
                 static_cast<uint64_t>(group.n_keys));
      for (float& vote : votes) vote = static_cast<float>(random.below(1 << 20));
      return votes;
    }
    std::vector<KeyBlock> blocks;
    if (score_rope_ == kTrue) {
      blocks.assign(plan.pages(kv).begin(), plan.pages(kv).begin() + (end + kPageKeys - 1) / kPageKeys);
    } else {
      for (size_t page = 0; page * kPageKeys < static_cast<size_t>(end); ++page)
        blocks.push_back((page < keys.full->size() ? *(*keys.full)[page] : *keys.last).block());
      for (KeyBlock& block : blocks) block.v = plan.pages(kv)[0].v;  // the kernel opens a page as a whole
    }
    kernels::AttentionArgs args{.k_type = plan.layout().k_type,
                                .v_type = plan.layout().v_type,
                                .k_dim = shape.k_dim,
                                .v_dim = shape.v_dim,
                                .group = shape.group(),
                                .scale = 1.0f,
                                .n_queries = 1,
                                .q = q.data() + int64_t{kv} * shape.group() * shape.k_dim,
                                .ld_q = int64_t{shape.n_heads} * shape.k_dim,
                                .q_pos = &end,
                                .blocks = blocks.data(),
                                .n_blocks = static_cast<int64_t>(blocks.size()),
                                .rule = {}};
    thread_local tensor::Scratch scratch;
    args.scratch = scratch.at_least(kernels::attention_scratch_bytes(args));
    std::vector<float> scores(blocks.size() * kPageKeys), by_position(static_cast<size_t>(n));
    for (int head = 0; head < shape.group(); ++head) {
      kernels::attention_scores(args, head, scores.data(), static_cast<int64_t>(scores.size()));
      float* of_keys = scores.data() + n_init_;
      if (score_rope_ == kTrue) {  // the cache's pages need not be in order of position
        for (size_t i = 0; i < scores.size(); ++i) {
          const int32_t position = blocks[i / kPageKeys].positions[i % kPageKeys];
          if (position >= n_init_ && position < end) by_position[static_cast<size_t>(position - n_init_)] = scores[i];
        }
        of_keys = by_position.data();
      }
      if (vote_ != kSum) kernels::softmax(of_keys, n, of_keys);
      kernels::axpy(n, 1.0f, of_keys, votes.data());
    }
    return votes;
  }

  // The positions that win, rising; of equal ones the earlier.
  std::vector<int32_t> best(const std::vector<float>& votes) const {
    const auto n = static_cast<int64_t>(votes.size()), half = int64_t{pool_} / 2;
    std::vector<float> pooled = votes;
    for (int64_t j = 0; j < n && half > 0; ++j) {
      const auto first = votes.begin() + std::max<int64_t>(0, j - half),
                 last = votes.begin() + std::min(n, j + half + 1);
      pooled[static_cast<size_t>(j)] = *std::max_element(first, last);
    }
    std::vector<int32_t> order(votes.size());
    std::iota(order.begin(), order.end(), 0);
    const auto higher = [&](int32_t a, int32_t b) {
      const float x = pooled[static_cast<size_t>(a)], y = pooled[static_cast<size_t>(b)];
      return x != y ? x > y : a < b;
    };
    std::nth_element(order.begin(), order.begin() + (top_k_ - 1), order.end(), higher);
    order.resize(static_cast<size_t>(top_k_));
    std::sort(order.begin(), order.end());
    for (int32_t& position : order) position += n_init_;
    return order;
  }

  // The chosen keys and values; keys are turned to their places in the list, or (without turns) as they are cached.
  Pages gather(const Call& call, const KeyPlan& plan, int kv, const std::vector<int32_t>& chosen,
               const std::vector<int32_t>& slots, const KeyTurns* turns, const Selected::Keys& keys) const {
    const auto width = static_cast<size_t>(call.model.site(call.layer).k_dim);
    Pages out;
    std::shared_ptr<OwnPage> page;
    float key[256];
    for (size_t i = 0; i < chosen.size(); ++i) {
      const auto slot = static_cast<int>(i % kPageKeys);
      if (slot == 0) out.push_back(page = std::make_shared<OwnPage>(plan.layout()));
      const int32_t position = chosen[i], at = slots[static_cast<size_t>(position)];
      const KeyBlock& from = plan.pages(kv)[static_cast<size_t>(at / kPageKeys)];
      if (!turns) {
        page->put(slot, position, from, at % kPageKeys);
        continue;
      }
      const auto in_keys = static_cast<size_t>(position / kPageKeys);
      const OwnPage& plain = in_keys < keys.full->size() ? *(*keys.full)[in_keys] : *keys.last;
      plan.read_key(plain.block(), position % kPageKeys, {key, width});
      turns->turn(n_init_ + static_cast<int32_t>(i), {key, width});
      page->put(slot, position, std::span<const float>(key, width), from, at % kPageKeys);
    }
    return out;
  }

  // The last keys, the first ones, and the pages of those between.
  void narrow(const KeyPlan& plan, int kv, const Group& group, const std::vector<KeyPlan::Page>& added, int turn,
              KeyPlan::Tile& tile) const {
    KeyPlan::Part last = tile.parts[0], first = last, chosen = last;
    const int32_t begin = group.n_keys - group.n_local;
    const auto slots_where = [&](const KeyPlan::Page& page, const auto& holds) {
      uint32_t bits = 0;
      for (int slot = 0; slot < kPageKeys; ++slot)
        bits |= static_cast<uint32_t>(holds(plan.page(kv, page.index).positions[slot])) << slot;
      return bits;
    };
    std::erase_if(last.pages, [&](const KeyPlan::Page& page) {
      return slots_where(page, [&](int32_t p) { return p >= begin && p != kernels::kNoPosition; }) == 0;
    });
    for (KeyPlan::Page& page : last.pages) {
      const uint32_t before = slots_where(page, [&](int32_t p) { return p < begin; });
      if (before == 0) continue;
      for (uint32_t& bits : plan.own_mask(tile, page)) bits &= ~before;
    }
    std::erase_if(first.pages, [&](const KeyPlan::Page& page) {
      return slots_where(page, [&](int32_t p) { return p < n_init_; }) == 0;
    });
    for (KeyRule& rule : first.rules) rule = {n_init_, 0, rule.ahead};
    first.turn = chosen.turn = turn;
    chosen.pages = added;
    tile.parts.clear();
    if (n_init_ > 0) tile.parts.push_back(std::move(first));
    tile.parts.push_back(std::move(last));
    tile.parts.push_back(std::move(chosen));
  }

  int n_init_ = 128, n_local_ = 512, top_k_ = 2048, chunk_ = 512, pool_ = 1, vote_ = kSoft, positions_ = kCompacted,
      score_rope_ = kLocal, seed_ = 0;
  double theta_ = 0.9;
  size_t n_layers_ = 0;
};
FOVEA_REGISTER_METHOD(TokenSelect);

}  // namespace
}  // namespace fovea::attention
