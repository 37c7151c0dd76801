// StreamingLLM: attend to the first `n_sink` keys and the last `window` keys only, and drop the rest.
// Xiao et al., "Efficient Streaming Language Models with Attention Sinks", arXiv:2309.17453, 3.2.
// Not done here: the paper re-numbers positions inside the cache; keys keep the rotation of their
// place in the text. `full` is ours: the best retrieval heads keep everything (needs a head profile).
#include <algorithm>
#include <cmath>
#include <set>
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
      .summary = "first keys and a sliding window; the rest leaves the cache",
      .neutral = "window=16777216",
      .example = "n_sink=2:window=6",
      .exceptions =
          "chunks~1e-1: dropped keys (sec. 3.2) move page borders, so sums are cut elsewhere by about 1e-5, and in "
          "fast that moves some activation by one int8 code"};
  const MethodInfo& info() const override { return kInfo; }

  void visit_knobs(KnobVisitor& knobs) override {
    knobs.add("n_sink", n_sink_, {.min = 0, .max = 1 << 24, .help = "first keys, always visible"});
    knobs.add("window", window_, {.min = 1, .max = 1 << 24, .help = "last keys, always visible"});
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

  void keep(const LayerView& view, KvCache& cache) const override {
    const int32_t next = view.q_pos.back() + 1;  // the next row sees no older key than next + 1 - window, but the sinks
    for (int kv = 0; kv < view.model.n_kv_heads; ++kv) {
      if (drops(view.layer, kv)) cache.drop(view.sequence, view.layer, kv, n_sink_, next + 1 - window_);
    }
  }
  int64_t max_keys(int layer, int kv_head) const override {
    return drops(layer, kv_head) ? static_cast<int64_t>(n_sink_) + window_ - 1 : Method::max_keys(layer, kv_head);
  }

 private:
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
  HeadSet heads_ = HeadSet::all();
  double full_ = 0;
  int group_ = 1, n_heads_ = 0;
  std::vector<bool> applies_;
  std::set<int> full_head_;
};
FOVEA_REGISTER_METHOD(StreamingLlm);

}  // namespace
}  // namespace fovea::attention
