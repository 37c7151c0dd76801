// A language model in training: its samples are tokens with what should follow them.
#pragma once

#include <memory>
#include <vector>

#include "fovea/train/learner.h"
#include "fovea/train/lm_step.h"

namespace fovea::train {

class LmLearner final : public Learner {
 public:
  static Result<std::unique_ptr<Learner>> open(Settings& settings, const TrainConfig& config);

  const std::vector<Param>& params() const override { return model_->params(); }
  const tensor::Adapters* adapters() const override { return model_->adapters(); }
  const Data& data() const override { return *data_.train; }
  const tokenizers::Tokenizer* tokenizer() const override { return model_->tokenizer(); }
  Trainer::Outcome step(Trainer& trainer, int64_t number, const std::atomic<bool>* cancel) override;
  int64_t tokens_of_step() const override;
  bool evaluates() const override { return data_.eval != nullptr; }
  double evaluate(Trainer& trainer, const std::atomic<bool>* cancel) override {
    return lm_->evaluate(trainer, *data_.eval, data_.n_eval, batch_, cancel);
  }
  std::string first_bad(Trainer& trainer) const override { return lm_->first_bad(trainer, batches_); }
  Result<std::string> save(const std::string& out, const nlohmann::ordered_json& training) const override;

 private:
  LmLearner() = default;
  std::unique_ptr<TrainedModel> model_;
  LearnerData data_;
  std::unique_ptr<Order> order_;
  std::unique_ptr<LmStep> lm_;
  int64_t batch_ = 1, accumulate_ = 1;
  std::vector<MicroBatch> batches_;  // of the last step
};

}  // namespace fovea::train
