// What a run trains: a model with its data and its losses. The loop knows no more of it than this.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fovea/base/result.h"
#include "fovea/train/config.h"
#include "fovea/train/data/data.h"
#include "fovea/train/trainer.h"

namespace fovea::train {

class Learner {
 public:
  virtual ~Learner() = default;
  virtual const std::vector<Param>& params() const = 0;
  virtual const tensor::Adapters* adapters() const { return nullptr; }
  virtual const Data& data() const = 0;
  virtual const tokenizers::Tokenizer* tokenizer() const { return nullptr; }  // null: there is none
  // Step `number` of the trainer, over the samples that belong to it; throws attention::Cancelled.
  virtual Trainer::Outcome step(Trainer& trainer, int64_t number, const std::atomic<bool>* cancel) = 0;
  virtual int64_t tokens_of_step() const = 0;  // of the last one; pictures count one each
  virtual bool evaluates() const = 0;
  // The mean loss over held-out data, with the weights as they are averaged.
  virtual double evaluate(Trainer& trainer, const std::atomic<bool>* cancel) = 0;
  // Of what the last evaluation wanted, the share whose class had the largest output; none where a net has no classes.
  virtual std::optional<double> eval_accuracy() const { return {}; }
  virtual std::string_view unit() const { return "tokens"; }  // of tokens_of_step()
  // The first value of the last step's forward pass that is not finite: a parameter or a hook's name; empty if all are.
  virtual std::string first_bad(Trainer& trainer) const = 0;
  // Writes the model into `out`, with what is known of its training -> its path.
  virtual Result<std::string> save(const std::string& out, const nlohmann::ordered_json& training) const = 0;
};

// Reads what the config says of model, data and losses, and finishes it. A `{"net": ...}` that reads or makes something
// else than text is a NetLearner, all else an LmLearner.
Result<std::unique_ptr<Learner>> make_learner(Settings& settings, const TrainConfig& config);

// The data of "data" and of "eval", as far as they are there.
struct LearnerData {
  std::unique_ptr<Data> train, eval;
  int64_t n_eval = 0;
};
// The samples of step `number`: `accumulate` parts of `batch` each, in that order from where the step before ended.
std::vector<std::vector<Sample>> samples_of_step(Order& order, int64_t number, int64_t batch, int64_t accumulate);
// Refuses data whose first samples want nothing, by a count of what one does.
Status check_wanted(const Data& data, const std::string& what, const std::function<int64_t(const Sample&)>& count);
Result<LearnerData> read_data(Settings& settings, const TrainConfig& config, Data::Context context);

}  // namespace fovea::train
