#include "fovea/train/lm_step.h"

#include <algorithm>
#include <set>

#include "fovea/base/check.h"
#include "fovea/tensor/ops/ops.h"

namespace fovea::train {

using tensor::Tensor;

LmStep::LmStep(const TrainedModel& model, std::vector<std::unique_ptr<Loss>> losses, bool recompute)
    : model_(model), losses_(std::move(losses)), recompute_(recompute), hooks_(model.hooks()) {
  std::set<int> layers;
  for (const auto& loss : losses_) {
    for (const int layer : loss->layers()) layers.insert(layer);
  }
  for (const int layer : layers)
    (void)hooks_.attach(Loss::hook_of(layer), [this, layer](const std::string&, Tensor& x) { hidden_[layer] = x; });
}

Trainer::Outcome LmStep::step(Trainer& trainer, const std::vector<MicroBatch>& batches,
                              const std::atomic<bool>* cancel) {
  std::vector<int64_t> counts;
  for (const auto& loss : losses_) {
    int64_t count = loss->of_parameters() ? 1 : 0;
    for (const MicroBatch& batch : batches) count += loss->count(batch);
    counts.push_back(count);
  }
  const auto share = [&](int i) {
    const MicroBatch& batch = batches[static_cast<size_t>(i)];
    Tensor logits, all;
    for (size_t k = 0; k < losses_.size(); ++k) {
      const Loss& loss = *losses_[k];
      const bool counts_here = loss.of_parameters() ? i == 0 : loss.count(batch) > 0;
      if (!counts_here || loss.weight() == 0) continue;
      if (!logits.defined() && !loss.of_parameters())
        logits = model_.forward(batch, hooks_, {.recompute = recompute_, .cancel = cancel});
      const Tensor sum = loss.sum({.batch = batch, .logits = logits, .hidden = hidden_});
      const Tensor mean = tensor::affine(sum, static_cast<float>(loss.weight() / static_cast<double>(counts[k])));
      all = all.defined() ? tensor::add(all, mean) : mean;
    }
    hidden_.clear();
    return all;
  };
  return trainer.step(static_cast<int>(batches.size()), share);
}

double LmStep::evaluate(Trainer& trainer, const Data& data, int64_t n, int64_t batch,
                        const std::atomic<bool>* cancel) const {
  const Trainer::Averaged averaged(trainer);
  attention::Hooks none(model_.hooks());
  double sum = 0;
  int64_t count = 0;
  for (int64_t begin = 0; begin < n; begin += batch) {
    std::vector<Sample> samples;
    for (int64_t i = begin; i < std::min(n, begin + batch); ++i)
      samples.push_back(data.sample(static_cast<uint64_t>(i)));
    const MicroBatch micro(samples);
    if (micro.targets.empty()) continue;
    tensor::Exec exec{.arena = &trainer.arena(), .numerics = tensor::Numerics::kExact, .adapters = trainer.adapters()};
    const tensor::ExecScope scope(exec);
    const Tensor logits = model_.forward(micro, none, {.cancel = cancel});
    const auto loss = tensor::cross_entropy(logits, micro.targets);
    sum += double{loss.sum.data()[0]};
    count += loss.count;
  }
  return count > 0 ? sum / static_cast<double>(count) : 0;
}

std::string LmStep::first_bad(Trainer& trainer, const std::vector<MicroBatch>& batches) const {
  for (const Param& param : trainer.params()) {
    if (!all_finite(param.value)) return "parameter " + param.name;
  }
  std::string found;
  attention::Hooks hooks(model_.hooks());
  for (const std::string& name : hooks.model().names()) {
    // These have no values without a cache.
    if (name.ends_with("hook_attn_scores") || name.ends_with("hook_pattern")) continue;
    (void)hooks.attach(name, [&found](const std::string& site, Tensor& x) {
      if (found.empty() && !all_finite(x)) found = site;
    });
  }
  try {
    for (const MicroBatch& batch : batches) {
      tensor::Exec exec{
          .arena = &trainer.arena(), .numerics = tensor::Numerics::kExact, .adapters = trainer.adapters()};
      const tensor::ExecScope scope(exec);
      (void)model_.forward(batch, hooks, {});
      if (!found.empty()) break;
    }
  } catch (const CheckFailed&) {  // a hook that this chain cannot fire; what was seen before it counts
  }
  return found;
}

}  // namespace fovea::train
