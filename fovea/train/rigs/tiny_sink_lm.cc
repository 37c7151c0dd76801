// Decoders whose heads copy what stood before one of 12 symbols and have nothing to do elsewhere
// (generators/markov.cc): with a softmax alone one looks at the first token there, with a logit of its own in the
// softmax (tiny-sink-lm-slot) it needs none. What is measured, over held-out samples:
//   sink       heads that give the first token more than 0.3 of their attention, mean over a sample's rows: the share
//              of all heads and samples (Gu et al., arXiv:2410.10781, 3.1)
//   strongest  what the head that looks most at the first token gives it, mean over all rows
//   off_first  1 - strongest
//   slot       what the head that uses its own logit most leaves to that
// Seed 1 of tiny-sink-lm reaches a sink of 1.00 and a strongest of 0.70. When a sink forms is the seed's luck: after
// 4000 steps seed 2 has a strongest of 0.11 and seed 3 of 0.36. Of the slot 0.55, with 0.02 for the first token.
#include <algorithm>

#include "fovea/base/check.h"
#include "fovea/base/json.h"
#include "fovea/engine/session.h"
#include "fovea/train/data/data.h"
#include "fovea/train/rigs/rig.h"
#include "fovea/train/settings.h"

namespace fovea::train {
namespace {

constexpr int kSamples = 64, kTokens = 64;
constexpr double kSinkShare = 0.3;

// What rows give to the first key and to all keys, summed by layer and head.
class FirstKey final : public attention::RowObserver {
 public:
  FirstKey(int n_layers, int n_heads) : n_heads_(n_heads), sums_(static_cast<size_t>(n_layers * n_heads)) {}
  bool wants(int, int, bool) const override { return true; }
  void see(const attention::RowView& row, std::span<const float> pattern) override {
    Sums& sums = sums_[static_cast<size_t>(row.call.layer * n_heads_ + row.head)];
    sums.first += double{pattern[0]};
    for (const float share : pattern) sums.all += double{share};
  }
  struct Sums {
    double first = 0, all = 0;
  };
  const std::vector<Sums>& sums() const { return sums_; }

 private:
  int n_heads_;
  std::vector<Sums> sums_;  // rows of one head come in order and from one thread at a time
};

Result<Measures> sinks(const std::string& folder, const std::atomic<bool>* cancel) {
  FOVEA_ASSIGN_OR_RETURN(const auto model, engine::Model::load(folder));
  FOVEA_ASSIGN_OR_RETURN(const auto session, engine::Session::create(model, {.numerics = kernels::Numerics::kExact}));
  FOVEA_ASSIGN_OR_RETURN(
      const auto json, parse_json(R"({"generator": "markov", "begin": true, "triggers": 12, "branches": 8})", "data"));
  Settings settings(json, "data");
  const auto data = make_data(settings, {.vocab_size = model->shape().vocab_size, .context = kTokens, .seed = 1000});
  FOVEA_CHECK(data != nullptr, "the data of tiny-sink-lm do not fit its model");
  engine::PrefillOptions options;
  options.cancel = cancel;
  const auto n_heads = static_cast<size_t>(model->shape().n_layers * model->shape().n_heads);
  std::vector<double> first(n_heads), slot(n_heads);
  int over = 0;
  for (uint64_t i = 0; i < kSamples; ++i) {
    FirstKey seen(model->shape().n_layers, model->shape().n_heads);
    session->observe(&seen);
    const auto sequence = session->begin();
    const auto logits = session->prefill(sequence, data->sample(i).tokens, options);
    session->stop_observing(&seen);
    session->remove(sequence);
    if (!logits) return logits.error();
    for (size_t head = 0; head < n_heads; ++head) {
      const double share = seen.sums()[head].first / kTokens;
      over += share > kSinkShare;
      first[head] += share / kSamples;
      slot[head] += (1 - seen.sums()[head].all / kTokens) / kSamples;
    }
  }
  const double strongest = *std::max_element(first.begin(), first.end());
  return Measures{{"sink", static_cast<double>(over) / static_cast<double>(kSamples * n_heads)},
                  {"strongest", strongest},
                  {"off_first", 1 - strongest},
                  {"slot", *std::max_element(slot.begin(), slot.end())}};
}

FOVEA_RIG(tiny_sink_lm, "tiny-sink-lm", "a decoder of a layer whose head looks at the first token", 1, 1.12, R"({
  "model": {"net": "llama", "d_model": 64, "d_ff": 128, "n_layers": 1, "n_heads": 1, "vocab_size": 65, "n_ctx": 128},
  "data": {"generator": "markov", "begin": true, "triggers": 12, "branches": 8},
  "context": 64,
  "batch": 16,
  "steps": 3000,
  "optimizer": {"name": "adamw", "lr": 0.01, "betas": [0.9, 0.98], "weight_decay": 0.1, "decay": "matrices"},
  "schedule": {"name": "cosine", "warmup": 50, "final": 0.1},
  "clip": 1.0,
  "eval": {"data": {"generator": "markov", "begin": true, "triggers": 12, "branches": 8}, "every": 500},
  "checkpoint_every": 1000,
  "seed": 1
})",
          sinks, {{"sink", 0.9}, {"strongest", 0.5}});

FOVEA_RIG(tiny_sink_lm_slot, "tiny-sink-lm-slot",
          "a decoder of 2 layers whose heads look at a logit of their own instead", 1, 1.12,
          R"({
  "model": {"net": "gpt-oss", "d_model": 64, "d_ff": 128, "n_layers": 2, "n_heads": 1, "vocab_size": 65, "n_ctx": 128},
  "data": {"generator": "markov", "begin": true, "triggers": 12, "branches": 8},
  "context": 64,
  "batch": 16,
  "steps": 1500,
  "optimizer": {"name": "adamw", "lr": 0.01, "betas": [0.9, 0.98], "weight_decay": 0.1, "decay": "matrices"},
  "schedule": {"name": "cosine", "warmup": 50, "final": 0.1},
  "clip": 1.0,
  "eval": {"data": {"generator": "markov", "begin": true, "triggers": 12, "branches": 8}, "every": 500},
  "checkpoint_every": 500,
  "seed": 1
})",
          sinks, {{"slot", 0.4}, {"off_first", 0.9}});

}  // namespace
}  // namespace fovea::train
