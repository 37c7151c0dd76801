// DuoAttention: the KV heads whose gate is low ("streaming heads") see and keep the first `sink` and the last `recent`
// keys alone, the others everything. Xiao et al., "DuoAttention", arXiv:2410.10819, sec. 2.2 to 2.4. Keys keep the
// places that they have in the text. The gates, one a KV head, are weights of the model's file ("duo-attention.gate",
// [n_layers, n_kv_heads]) or else the column duo_gate of its head profile. `mix` is how they are learnt (sec. 2.3, eq.
// 1): every head gives
//   gate z(all keys) + (1 - gate) z(sink and recent keys),
// both from the queries, keys and values of this pass. Not done: the authors' program takes the first of the two from a
// second pass without the method (full_branch = teacher).
// Layers with a window of their own stay as they are where others have none; where all have one, both rules hold. Where
// a head has a learnt sink of its own (gpt-oss) `mix` is not the sum above: its share is that of both softmaxes
// together.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "fovea/attention/method.h"
#include "fovea/base/check.h"
#include "fovea/base/random.h"
#include "fovea/tensor/ops/math/binary.h"
#include "fovea/tensor/ops/math/unary.h"
#include "fovea/tensor/ops/shape/copy.h"
#include "fovea/tensor/ops/shape/view.h"

namespace fovea::attention {
namespace {

class DuoAttention final : public Method {
 public:
  static constexpr MethodInfo kInfo{
      .name = "duo-attention",
      .title = "DuoAttention",
      .paper = "arXiv:2410.10819, sec. 2.2",
      .stages = kChoose | kJoin | kKeep,
      .summary = "KV heads with low gates hold first and last keys only; the gates are trained",
      .neutral = "sparsity=0",
      .example = "sink=2:recent=6",
      .more_examples = "sink=2:recent=6:gates=random:sparsity=0.5 sink=0:recent=5:heads=0.0",
      .excludes = "streaming-llm",
      .exceptions =
          "chunks~1e-1: dropped keys (sec. 2.4) move page borders, so sums are cut elsewhere by about 1e-5, and in "
          "fast that moves some activation by one int8 code, and with prefill_first_dense the first chunk sees "
          "everything",
      .budgets = "sparsity=0.25 sparsity=0.5 sparsity=0.75"};
  const MethodInfo& info() const override { return kInfo; }

  void visit_knobs(KnobVisitor& knobs) override {
    knobs.add("sparsity", sparsity_,
              {.min = -1,
               .max = 1,
               .help = "share of KV heads that stream, lowest gates first; -1: 0.5 where query heads share keys, else "
                       "0.75"});
    knobs.add("threshold", threshold_, {.min = -1, .max = 1, .help = "instead: gates below it stream; -1: sparsity"});
    knobs.add("sink", sink_, {.min = 0, .max = 1 << 24, .help = "first keys, which streaming heads see"});
    knobs.add("recent", recent_, {.min = 1, .max = 1 << 24, .help = "last keys, which streaming heads see"});
    knobs.add("gates", order_, {"learned", "inverted", "shuffled", "random"},
              {.help = "as they were learnt, or as a control: 1 - gate, those of other layers, or drawn"});
    knobs.add("heads", heads_,
              {.help = "KV heads that keep everything, instead: 3-9 (layers), 4.1 (one), joined by +"});
    knobs.add("seed", seed_, {.min = 0, .help = "of gates that are shuffled or drawn"});
    knobs.add("prefill_first_dense", first_dense_,
              {.help = "the first chunk of a prompt sees everything, as in the authors' program: then the size of "
                       "chunks shows"});
    knobs.add("mix", mix_, {.help = "both ways of each head, weighed by its gate: for training"});
    knobs.add("start", start_, {.min = 0, .max = 1, .help = "gates where the model's file has none, with mix"});
  }

  Status bind(const ModelShape& model) override {
    n_layers_ = model.n_layers, n_kv_heads_ = model.n_kv_heads, group_ = model.group();
    const auto refuse = [](const char* a, const char* b) {
      return make_error(ErrorCode::kUsage, "knobs {} and {} both say which heads stream", a, b);
    };
    if (threshold_ >= 0 && sparsity_ >= 0) return refuse("sparsity", "threshold");
    if (!heads_.empty() && (threshold_ >= 0 || sparsity_ >= 0))
      return refuse("heads", threshold_ >= 0 ? "threshold" : "sparsity");
    if (!heads_.empty() && order_ != kLearned) return refuse("heads", "gates");
    ModelShape kv = model;
    kv.n_heads = n_kv_heads_;
    FOVEA_RETURN_IF_ERROR(heads_.check(kv));
    bool all_have_windows = true;
    for (int layer = 0; layer < n_layers_; ++layer)
      all_have_windows = all_have_windows && model.site(layer).window != AttentionShape().window;
    for (int layer = 0; layer < n_layers_; ++layer) {
      const AttentionShape site = model.site(layer);
      const bool is_local = site.window != AttentionShape().window && !all_have_windows;
      can_stream_.push_back(site.causal && !is_local && site.n_heads == model.n_heads &&
                            site.n_kv_heads() == n_kv_heads_);
    }
    if (mix_ && all_have_windows)
      return make_error(ErrorCode::kUnsupported, "knob mix: every layer has a window, and there no gates are learnt");
    const std::vector<double>* measured =
        model.profile ? model.profile->find("duo_gate", Granularity::kKvHead) : nullptr;
    known_ = measured != nullptr;
    choose_heads(measured ? *measured : std::vector<double>(static_cast<size_t>(n_layers_ * n_kv_heads_), 1.0));
    return {};
  }
  std::vector<tensor::Parameter> parameters() override {
    return {{.name = "gate",
             .hf_name = "",
             .shape = {n_kv_heads_, n_layers_},
             .target = &gates_,
             .init = tensor::Init::constant(static_cast<float>(start_)),
             .fixed = !mix_,  // without it they only say which heads stream
             .least = 0,
             .most = 1}};
  }
  Status weights_bound(bool from_file) override {
    if (from_file) {
      const tensor::Tensor values = tensor::weight_values(gates_);
      choose_heads({values.values().begin(), values.values().end()});
      return {};
    }
    const bool any_will_do = mix_ || order_ == kRandom || !heads_.empty() || sparsity_ == 0 || sparsity_ == 1;
    if (known_ || any_will_do) return {};
    return make_error(ErrorCode::kUsage,
                      "there are no gates of this model; train some (docs/train.md), say gates=random, or name the "
                      "heads that keep everything in knob heads");
  }

  KeyRule rule(int layer, int head) const override {
    return !first_dense_ && streams(layer, head / group_) ? KeyRule{sink_, recent_} : KeyRule{};
  }
  bool chooses(int layer) const override { return joins(layer) || (first_dense_ && any_streams(layer)); }
  void choose(const Call& call, const Queries&, KeyPlan& plan) const override {
    if (mix_) return add_streaming_part(call, plan);
    if (call.q_pos.front() == 0) return;
    for (int head = 0; head < plan.n_kv_heads() * group_; ++head) {
      if (streams(call.layer, head / group_)) plan.narrow(head / group_, head % group_, {sink_, recent_});
    }
  }
  bool joins(int layer) const override { return mix_ && can_stream_[static_cast<size_t>(layer)]; }
  void join(const Call& call, const tensor::Tensor& lse, tensor::Tensor& weights) const override {
    FOVEA_CHECK(lse.dim(2) == 2, "duo-attention: with mix a head reads two lists of keys, and here are {}", lse.dim(2));
    tensor::Tensor ones = tensor::Tensor::empty({lse.dim(0), lse.dim(1), 1});
    std::fill_n(ones.data(), ones.elements(), 1.0f);
    const tensor::Tensor mine = tensor::slice(tensor::weight_values(gates_), 0, call.layer, call.layer + 1);
    const tensor::Tensor each = tensor::repeat(tensor::reshape(mine, {n_kv_heads_, 1}), 1, group_);
    const tensor::Tensor full = tensor::mul_spread(ones, tensor::reshape(each, {lse.dim(1), 1}));
    weights = tensor::concat({full, tensor::affine(full, -1, 1)}, 2);
  }

  void keep(const Call& view, KvCache& cache) const override {
    const int32_t next = view.q_pos.back() + 1;  // its row sees no older key than next + 1 - recent, but the sinks
    for (int kv = 0; kv < n_kv_heads_; ++kv) {
      if (streams(view.layer, kv)) cache.drop(view.sequence, view.layer, kv, sink_, next + 1 - recent_);
    }
  }
  int64_t max_keys(int layer, int kv_head) const override {
    return streams(layer, kv_head) ? int64_t{sink_} + recent_ - 1 : Method::max_keys(layer, kv_head);
  }

 private:
  enum Order { kLearned, kInverted, kShuffled, kRandom };

  bool streams(int layer, int kv_head) const {
    return !mix_ && streams_[static_cast<size_t>(layer * n_kv_heads_ + kv_head)];
  }
  bool any_streams(int layer) const {
    for (int kv = 0; kv < n_kv_heads_; ++kv) {
      if (streams(layer, kv)) return true;
    }
    return false;
  }

  // gates: [n_layers * n_kv_heads]
  void choose_heads(std::vector<double> gates) {
    const auto n_kv_heads = static_cast<size_t>(n_kv_heads_);
    Rng random(static_cast<uint64_t>(seed_));
    std::vector<int> ids;  // of the heads that can stream, rising
    for (int id = 0; id < n_layers_ * n_kv_heads_; ++id) {
      if (can_stream_[static_cast<size_t>(id) / n_kv_heads]) ids.push_back(id);
    }
    if (order_ == kShuffled) {
      std::vector<int> layers;
      for (size_t i = 0; i < ids.size(); i += n_kv_heads) layers.push_back(ids[i] / n_kv_heads_);
      const std::vector<double> before = gates;
      std::vector<int> from = layers;
      for (size_t i = 0; i < layers.size(); ++i) {
        std::swap(from[i], from[i + random.below(from.size() - i)]);
        std::copy_n(before.begin() + from[i] * n_kv_heads_, n_kv_heads, gates.begin() + layers[i] * n_kv_heads_);
      }
    }
    for (double& gate : gates) {
      if (order_ == kInverted) gate = 1 - gate;
      if (order_ == kRandom) gate = random.uniform();
    }
    streams_.assign(gates.size(), false);
    if (!heads_.empty() || threshold_ >= 0) {
      for (const int id : ids) {
        const auto at = static_cast<size_t>(id);
        streams_[at] = heads_.empty() ? gates[at] < threshold_ : !heads_.contains(id / n_kv_heads_, id % n_kv_heads_);
      }
      return;
    }
    const double share = sparsity_ >= 0 ? sparsity_ : group_ > 1 ? 0.5 : 0.75;
    // Of equal gates the first stay full, always the same ones: the authors' program adds noise.
    std::stable_sort(ids.begin(), ids.end(),
                     [&](int a, int b) { return gates[static_cast<size_t>(a)] > gates[static_cast<size_t>(b)]; });
    const auto n_streaming = std::llround(share * static_cast<double>(ids.size()));
    for (auto id = ids.end() - n_streaming; id != ids.end(); ++id) streams_[static_cast<size_t>(*id)] = true;
  }

  void add_streaming_part(const Call& call, KeyPlan& plan) const {
    for (int kv = 0; kv < plan.n_kv_heads(); ++kv) {
      bool whole = !plan.touched(kv);
      for (const KeyRule& rule : plan.rules(kv)) whole = whole && rule == KeyRule{};
      FOVEA_CHECK(whole, "duo-attention: with mix no method before it may choose keys");
    }
    plan.edit_tiles([&](int kv, KeyPlan::Tile& tile) {
      KeyPlan::Part few = tile.parts[0];
      for (KeyRule& rule : few.rules) rule = {sink_, recent_};
      const int32_t oldest = call.q_pos[static_cast<size_t>(tile.first)] - recent_;
      std::erase_if(few.pages, [&](const KeyPlan::Page& page) {
        const int32_t* keys = plan.page(kv, page.index).positions;
        return std::none_of(keys, keys + kernels::kPageKeys,
                            [&](int32_t key) { return key != kernels::kNoPosition && (key < sink_ || key > oldest); });
      });
      tile.parts.push_back(std::move(few));
    });
  }

  double sparsity_ = -1, threshold_ = -1, start_ = 1;
  int sink_ = 64, recent_ = 256;  // of the reported runs; gates are learnt with 128 and 256
  int order_ = kLearned, seed_ = 0;
  bool first_dense_ = false, mix_ = false;
  HeadSet heads_ = HeadSet::none();
  int n_layers_ = 0, n_kv_heads_ = 1, group_ = 1;
  bool known_ = false;            // gates of this model, not only some
  std::vector<bool> can_stream_;  // [n_layers]
  std::vector<bool> streams_;     // [n_layers * n_kv_heads]
  tensor::Weight gates_;          // [n_layers, n_kv_heads]
};
FOVEA_REGISTER_METHOD(DuoAttention);

}  // namespace
}  // namespace fovea::attention
