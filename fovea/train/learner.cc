#include "fovea/train/learner.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "fovea/train/lm_learner.h"
#include "fovea/train/net_learner.h"

namespace fovea::train {

Result<LearnerData> read_data(Settings& settings, const TrainConfig& config, Data::Context context) {
  LearnerData out;
  if (!settings.has("data")) settings.wrong("data", "is missing");
  Settings data = settings.object("data");
  if (!settings.good()) return settings.finish().error();
  out.train = make_data(data, context);
  if (!settings.good()) return settings.finish().error();
  if (!config.eval.on) return out;
  Settings eval = settings.object("eval");
  Settings eval_data = eval.object("data");
  context.seed = config.seed + 1;
  out.eval = make_data(eval_data, context);
  if (!settings.good()) return settings.finish().error();
  const bool endless = out.eval->size() >= Data::kEndless;
  out.n_eval = endless ? 64 : static_cast<int64_t>(out.eval->size());
  if (config.eval.samples > 0) out.n_eval = endless ? config.eval.samples : std::min(out.n_eval, config.eval.samples);
  return out;
}

Status check_wanted(const Data& data, const std::string& what, const std::function<int64_t(const Sample&)>& count) {
  constexpr uint64_t kLooked = 256;
  for (uint64_t i = 0; i < std::min(data.size(), kLooked); ++i) {
    if (count(data.sample(i)) > 0) return {};
  }
  return make_error(ErrorCode::kUsage, "{}: its samples want nothing that could be learned", what);
}

std::vector<std::vector<Sample>> samples_of_step(Order& order, int64_t number, int64_t batch, int64_t accumulate) {
  std::vector<std::vector<Sample>> out(static_cast<size_t>(accumulate));
  auto i = static_cast<uint64_t>(number) * static_cast<uint64_t>(batch * accumulate);
  for (std::vector<Sample>& part : out) {
    for (int64_t b = 0; b < batch; ++b) part.push_back(order(i++));
  }
  return out;
}

Result<std::unique_ptr<Learner>> make_learner(Settings& settings, const TrainConfig& config) {
  if (is_task_net(settings)) return NetLearner::open(settings, config);
  return LmLearner::open(settings, config);
}

}  // namespace fovea::train
