// A net with a forward pass of its own in training: it reads pictures or tokens and says itself what it loses.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <vector>

#include "fovea/train/learner.h"
#include "fovea/train/nets/task_net.h"

namespace fovea::train {

// Whether the config's model is {"net": NAME} of one of these.
bool is_task_net(Settings& settings);

class NetLearner final : public Learner {
 public:
  static Result<std::unique_ptr<Learner>> open(Settings& settings, const TrainConfig& config);

  const std::vector<Param>& params() const override { return params_; }
  const Data& data() const override { return *data_.train; }
  Trainer::Outcome step(Trainer& trainer, int64_t number, const std::atomic<bool>* cancel) override;
  int64_t tokens_of_step() const override;
  bool evaluates() const override { return data_.eval != nullptr; }
  double evaluate(Trainer& trainer, const std::atomic<bool>* cancel) override;
  std::optional<double> eval_accuracy() const override { return eval_accuracy_; }
  std::string_view unit() const override { return net_->wants().channels > 0 ? "pictures" : "tokens"; }
  std::string first_bad(Trainer& trainer) const override;
  // OUT/model: model.safetensors with the names of the net's parameters, and config.json with its sizes.
  Result<std::string> save(const std::string& out, const nlohmann::ordered_json& training) const override;

 private:
  NetLearner() = default;
  Status choose(Settings& settings);
  Status check_targets(const Data& data, const std::string& what) const;
  uint64_t key(int64_t step, size_t micro) const;

  nlohmann::ordered_json config_;  // the net's, as the run's config has it
  std::unique_ptr<TaskNet> net_;
  mutable attention::Pipeline pipeline_;
  std::vector<Param> params_;  // those that are trained
  LearnerData data_;
  std::unique_ptr<Order> order_;
  int64_t batch_ = 1, accumulate_ = 1, step_ = 0;
  uint64_t seed_ = 0;
  std::optional<double> eval_accuracy_ = {};
  std::vector<std::vector<Sample>> batches_;  // of the last step
};

}  // namespace fovea::train
