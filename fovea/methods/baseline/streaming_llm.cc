// StreamingLLM: attend to the first `n_sink` keys and the last `window` keys only, and drop the rest.
// Xiao et al., "Efficient Streaming Language Models with Attention Sinks", arXiv:2309.17453, 3.2.
// Positions are those inside the cache, as in the paper: once keys are dropped, a row's query is turned for the sinks
// as if it stood right behind them and the window (keys keep their rotation, and only distances matter), so that a text
// of any length can be read. `positions=text` keeps the places of the text. `full` is ours: the best retrieval heads
// keep everything (needs a head profile).
#include <algorithm>
#include <cmath>
#include <set>
#include <utility>
#include <vector>

#include "fovea/attention/method.h"

namespace fovea::attention {
namespace {

class StreamingLlm final : public Method {
 public:
  static constexpr MethodInfo kInfo{
      .name = "streaming-llm",
      .title = "StreamingLLM",
      .paper = "arXiv:2309.17453, sec. 3.2",
      .stages = kChoose | kKeep,
      .needs = "retrieval:full",
      .summary = "first keys and a sliding window; the rest leaves the cache; with positions=cache texts of any length",
      .neutral = "window=16777216",
      .example = "n_sink=2:window=6",
      .more_examples = "n_sink=2:window=6:positions=text n_sink=2:window=6:heads=0.1+1",
      .exceptions =
          "chunks~1e-1: dropped keys (sec. 3.2) move page borders, so sums are cut elsewhere by about 1e-5, and in "
          "fast that moves some activation by one int8 code",
      .budgets = "window={0.5} window={0.25} full=0.5:window={0.1}"};
  const MethodInfo& info() const override { return kInfo; }

  void visit_knobs(KnobVisitor& knobs) override {
    knobs.add("n_sink", n_sink_, {.min = 0, .max = 1 << 24, .help = "first keys, always visible"});
    knobs.add("window", window_, {.min = 1, .max = 1 << 24, .help = "last keys, always visible"});
    knobs.add("positions", positions_, {"text", "cache"},
              {.help = "places that queries and sinks are turned by: those of the text, or those inside the cache"});
    knobs.add("heads", heads_, {.help = "query heads it applies to: all, 3-9 (layers), 4.11 (one head), joined by +"});
    knobs.add("full", full_,
              {.min = 0, .max = 1, .help = "share of KV heads that keep every key, best retrieval scores first"});
  }

  Status bind(const ModelShape& model) override {
    FOVEA_RETURN_IF_ERROR(heads_.check(model));
    group_ = model.group();
    n_heads_ = model.n_heads;
    applies_.assign(static_cast<size_t>(model.n_layers) * model.n_heads, false);
    for (int layer = 0; layer < model.n_layers; ++layer) {
      for (int head = 0; head < model.n_heads; ++head) applies_[at(layer, head)] = heads_.contains(layer, head);
    }
    int left = static_cast<int>(std::lround(full_ * model.n_layers * model.n_kv_heads));
    if (left == 0) return {};
    FOVEA_ASSIGN_OR_RETURN(const std::vector<int> ranked,
                           top_heads(model, "retrieval", model.n_layers * model.n_heads));
    for (const int id : ranked) {  // the first of a group names its KV head; the group stays whole
      const int layer = id / n_heads_, first = id % n_heads_ / group_ * group_;
      if (left == 0) break;
      if (!full_head_.insert(layer * n_heads_ + first).second) continue;
      for (int g = 0; g < group_; ++g) applies_[at(layer, first + g)] = false;
      --left;
    }
    return {};
  }

  KeyRule rule(int layer, int head) const override {
    return applies_[at(layer, head)] ? KeyRule{n_sink_, window_} : KeyRule{};
  }

  bool chooses(int layer) const override {
    if (positions_ != kCache || n_sink_ == 0) return false;
    const auto first = applies_.begin() + static_cast<int64_t>(at(layer, 0));
    return std::find(first, first + n_heads_, true) != first + n_heads_;
  }
  // Rows that have lost keys read the sinks as a part of their own, with a query that stands at the cache's end.
  void choose(const Call& call, const Queries&, KeyPlan& plan) const override {
    const int32_t size = n_sink_ + window_;
    const auto lost =
        static_cast<int64_t>(std::lower_bound(call.q_pos.begin(), call.q_pos.end(), size) - call.q_pos.begin());
    if (lost == static_cast<int64_t>(call.q_pos.size())) return;
    std::vector<int32_t> inside(call.q_pos.begin(), call.q_pos.end());
    for (int32_t& position : inside) position = std::min(position, size - 1);
    const int turn = plan.turn(std::move(inside));
    plan.cut(lost);
    for (int kv = 0; kv < plan.n_kv_heads(); ++kv) {
      const auto first = applies_.begin() + static_cast<int64_t>(at(call.layer, kv * group_));
      if (std::find(first, first + group_, true) == first + group_) continue;
      const bool all = std::find(first, first + group_, false) == first + group_;
      for (int t = 0; t < plan.n_tiles(); ++t) {
        if (plan.first_row(t) < lost) continue;
        KeyPlan::Tile& tile = plan.tile(kv, t);
        const int32_t oldest = call.q_pos[static_cast<size_t>(tile.first)] - window_;
        std::vector<KeyPlan::Part> parts;
        for (KeyPlan::Part& part : tile.parts) {
          for (int g = all ? KeyPlan::kAllHeads : 0; g < (all ? 0 : group_); ++g) {
            if (!all && part.head != KeyPlan::kAllHeads && part.head != g) continue;
            KeyPlan::Part mine = part;
            if (!all) mine.head = g;
            if (all || first[g]) {
              parts.push_back(narrowed(mine, call, plan, kv, tile, /*sinks=*/true, oldest));
              parts.back().turn = turn;
              mine = narrowed(mine, call, plan, kv, tile, /*sinks=*/false, oldest);
            }
            parts.push_back(std::move(mine));
          }
        }
        tile.parts = std::move(parts);
      }
    }
  }
  int64_t reach() const override {
    const bool every = std::find(applies_.begin(), applies_.end(), false) == applies_.end();
    return positions_ == kCache && every ? int64_t{n_sink_} + window_ : Method::reach();
  }

  void keep(const Call& view, KvCache& cache) const override {
    const int32_t next = view.q_pos.back() + 1;  // the next row sees no older key than next + 1 - window, but the sinks
    for (int kv = 0; kv < view.model.n_kv_heads; ++kv) {
      if (drops(view.layer, kv)) cache.drop(view.sequence, view.layer, kv, n_sink_, next + 1 - window_);
    }
  }
  int64_t max_keys(int layer, int kv_head) const override {
    return drops(layer, kv_head) ? static_cast<int64_t>(n_sink_) + window_ - 1 : Method::max_keys(layer, kv_head);
  }

 private:
  enum Positions { kText, kCache };
  // The sinks' pages and rule of a part of the tile, or those of the window, whose oldest key is behind `oldest`.
  KeyPlan::Part narrowed(KeyPlan::Part part, const Call& call, const KeyPlan& plan, int kv, KeyPlan::Tile& tile,
                         bool sinks, int32_t oldest) const {
    std::erase_if(part.pages, [&](const KeyPlan::Page& page) {
      const int32_t* keys = plan.page(kv, page.index).positions;
      const auto here = [&](int32_t key) {
        return key != kernels::kNoPosition && (sinks ? key < n_sink_ : key > oldest);
      };
      return std::none_of(keys, keys + kernels::kPageKeys, here);
    });
    const auto is_wider = [&](const KeyRule& rule) {
      return sinks ? rule.window == KeyRule().window || rule.n_sink >= n_sink_
                   : rule.n_sink == 0 || rule.window >= window_;
    };
    if (std::all_of(part.rules.begin(), part.rules.end(), is_wider)) {
      for (KeyRule& rule : part.rules) {
        rule.n_sink = sinks ? n_sink_ : 0;
        rule.window = sinks ? 0 : std::min(rule.window, window_);
      }
      return part;
    }
    // Neither rule holds the other, as where the layer has a window of its own: masks say what both let through.
    const KeyRule own{sinks ? n_sink_ : 0, sinks ? 0 : window_, INT32_MAX};
    for (KeyPlan::Page& page : part.pages) {
      const uint32_t* before = std::exchange(page.bits, nullptr);  // other parts read that mask
      const std::span<uint32_t> bits = plan.mask(tile, page);
      for (size_t i = 0; i < bits.size(); ++i) {
        const size_t row = static_cast<size_t>(tile.first) + i % static_cast<size_t>(tile.n);
        const uint32_t seen = seen_slots(own, call.q_pos[row], plan.page(kv, page.index));
        bits[i] = (before ? before[i] : ~uint32_t{0}) & seen;
      }
    }
    return part;
  }
  // Whether every head that reads this KV head follows the rule.
  bool drops(int layer, int kv_head) const {
    for (int g = 0; g < group_; ++g) {
      if (!applies_[at(layer, kv_head * group_ + g)]) return false;
    }
    return true;
  }
  size_t at(int layer, int head) const { return static_cast<size_t>(layer) * n_heads_ + head; }

  int n_sink_ = 4;  // the paper's value; 0 is its failing baseline
  int window_ = 1020;
  int positions_ = kCache;
  HeadSet heads_ = HeadSet::all();
  double full_ = 0;
  int group_ = 1, n_heads_ = 0;
  std::vector<bool> applies_;
  std::set<int> full_head_;
};
FOVEA_REGISTER_METHOD(StreamingLlm);

}  // namespace
}  // namespace fovea::attention
