// What a language model loses on samples: the shares of a step for the Trainer, and a mean over held-out data.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "fovea/base/result.h"
#include "fovea/train/losses/loss.h"
#include "fovea/train/model.h"
#include "fovea/train/trainer.h"

namespace fovea::train {

class LmStep {
 public:
  LmStep(const TrainedModel& model, std::vector<std::unique_ptr<Loss>> losses, bool recompute);

  // One step of the trainer over these micro-batches; throws attention::Cancelled.
  Trainer::Outcome step(Trainer& trainer, const std::vector<MicroBatch>& batches, const std::atomic<bool>* cancel);
  // Mean cross-entropy of `n` samples, `batch` at a time, with the weights as they are.
  double evaluate(Trainer& trainer, const Data& data, int64_t n, int64_t batch, const std::atomic<bool>* cancel) const;
  // The first value of the forward pass that is not finite: a parameter or a hook's name; empty if all are.
  std::string first_bad(Trainer& trainer, const std::vector<MicroBatch>& batches) const;

 private:
  const TrainedModel& model_;
  std::vector<std::unique_ptr<Loss>> losses_;
  bool recompute_;
  attention::Hooks hooks_;  // those that losses asked for
  std::map<int, tensor::Tensor> hidden_;
};

}  // namespace fovea::train
