#include "fovea/train/lm_learner.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "fovea/train/save_model.h"

namespace fovea::train {

Result<std::unique_ptr<Learner>> LmLearner::open(Settings& settings, const TrainConfig& config) {
  std::unique_ptr<LmLearner> out(new LmLearner());
  if (config.context == 0) settings.wrong("context", "is missing");
  if (!settings.good()) return settings.finish().error();
  FOVEA_ASSIGN_OR_RETURN(out->model_, TrainedModel::open(settings, config.context));
  const TrainedModel& model = *out->model_;
  FOVEA_ASSIGN_OR_RETURN(out->data_, read_data(settings, config,
                                               {.tokenizer = model.tokenizer(),
                                                .no_tokenizer = model.no_tokenizer(),
                                                .source = &model.source(),
                                                .vocab_size = model.config().shape.vocab_size,
                                                .context = config.context,
                                                .seed = config.seed}));
  std::vector<std::unique_ptr<Loss>> losses;
  std::vector<Settings> wanted = settings.objects("losses");
  if (wanted.empty()) {
    Settings plain(nlohmann::ordered_json::object(), "");
    losses.push_back(make_part<Loss>(plain, "name", "next-token", {.model = &model}));
  }
  for (Settings& one : wanted)
    losses.push_back(make_part<Loss>(one, "name", one.text("name", std::nullopt), {.model = &model}));
  for (size_t i = 0; i < losses.size(); ++i) {
    if (model.soft_prompt().defined() && losses[i] && !losses[i]->layers().empty())
      wanted[i].wrong("layers", "compares rows, and those of a soft prompt have none in the teacher");
  }
  FOVEA_RETURN_IF_ERROR(settings.finish());
  for (const Data* data : {out->data_.train.get(), out->data_.eval.get()}) {
    if (!data) continue;
    const std::string what = settings.path_of(data == out->data_.train.get() ? "data" : "eval");
    for (const Data* part : data->parts()) {
      if (part->sample(0).tokens.empty())
        return make_error(ErrorCode::kUsage, "{}: its samples have no tokens, which this net reads", what);
      FOVEA_RETURN_IF_ERROR(check_wanted(*part, what, [](const Sample& sample) { return sample.n_targets(); }));
    }
  }
  out->lm_ = std::make_unique<LmStep>(model, std::move(losses), config.recompute);
  out->order_ = std::make_unique<Order>(*out->data_.train, config.shuffled, config.seed);
  out->batch_ = config.batch, out->accumulate_ = config.accumulate;
  return std::unique_ptr<Learner>(std::move(out));
}

Trainer::Outcome LmLearner::step(Trainer& trainer, int64_t number, const std::atomic<bool>* cancel) {
  batches_.clear();
  for (const std::vector<Sample>& samples : samples_of_step(*order_, number, batch_, accumulate_))
    batches_.emplace_back(samples);
  return lm_->step(trainer, batches_, cancel);
}

int64_t LmLearner::tokens_of_step() const {
  int64_t n = 0;
  for (const MicroBatch& batch : batches_) n += batch.batch.size();
  return n;
}

Result<std::string> LmLearner::save(const std::string& out, const nlohmann::ordered_json& training) const {
  return save_model(*model_, out, training);
}

}  // namespace fovea::train
