#include "papers/duo-attention/measure.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "fovea/tensor/exec.h"
#include "fovea/tensor/tape.h"
#include "fovea/train/losses/loss.h"

namespace fovea::papers::duo_attention {
namespace {

constexpr int kToyTokens = 40;  // well over sink and recent of the toy
constexpr int kAnswer = 64;     // tokens that an answer may have, at most

Result<std::unique_ptr<train::TrainedModel>> open_toy(const std::string& attention, const std::string& trainable) {
  const Json net = {{"net", "llama"}, {"d_model", 32},   {"n_layers", 2},
                    {"n_heads", 4},   {"n_kv_heads", 2}, {"vocab_size", 60}};
  train::Settings config(Json{{"model", net}, {"attention", attention}, {"trainable", {trainable}}, {"init_seed", 7}},
                         "toy");
  auto opened = train::TrainedModel::open(config, kToyTokens);
  FOVEA_RETURN_IF_ERROR(config.finish());
  return opened;
}

// eq. 2: the mean squared distance of what the unembedding reads, [1].
tensor::Tensor distance(const train::TrainedModel& model, const train::MicroBatch& batch,
                        const tensor::Tensor& wanted) {
  attention::Hooks hooks(model.hooks());
  tensor::Tensor seen;
  const Status attached = hooks.attach(train::Loss::hook_of(train::Loss::kFinal),
                                       [&seen](const std::string&, tensor::Tensor& x) { seen = x; });
  FOVEA_CHECK(attached.has_value(), "duo-attention: {}", attached.error().message);
  (void)model.forward(batch, hooks, {});
  return wanted.defined() ? train::mean_squared_error(seen, wanted) : tensor::Tensor::from(seen.shape(), seen.values());
}

}  // namespace

Result<Toy> toy(double start) {
  FOVEA_ASSIGN_OR_RETURN(const auto teacher, open_toy("dense", "*norm.weight"));
  FOVEA_ASSIGN_OR_RETURN(
      const auto model,
      open_toy(fmt::format("duo-attention:mix=true:sink=2:recent=4:start={}", start), "duo-attention.gate"));
  std::vector<int32_t> ids;
  for (int32_t i = 0; i <= kToyTokens; ++i) ids.push_back((5 + i * i) % 60);
  const train::MicroBatch batch({train::Sample::next_token(ids)});
  tensor::Exec plain{.numerics = tensor::Numerics::kExact};
  tensor::Tensor gate = model->params()[0].value;
  Toy out;
  out.n_gates = static_cast<int>(gate.elements());
  const tensor::ExecScope scope(plain);
  const tensor::Tensor wanted = distance(*teacher, batch, {});
  const auto loss = [&] { return double{distance(*model, batch, wanted).data()[0]}; };
  out.loss = loss();
  tensor::Tape tape;
  tape.watch(gate);
  {
    tensor::Exec taped{.numerics = tensor::Numerics::kExact, .tape = &tape};
    const tensor::ExecScope on_tape(taped);
    tape.backward(distance(*model, batch, wanted));
  }
  // Of second order: its own error is h^2 / 6 of the third derivative.
  constexpr float kStep = 0.02f;
  for (int64_t i = 0; i < gate.elements(); ++i) {
    float& x = gate.data()[i];
    const float at = x;
    x = at + kStep;
    const double above = loss();
    x = at - kStep;
    const double difference = (above - loss()) / (2 * double{kStep});
    x = at;
    out.worst = std::max(out.worst, std::abs(double{tape.grad(gate).data()[i]} - difference));
    out.largest = std::max(out.largest, std::abs(difference));
  }
  return out;
}

Result<Gates> gates_of(Run& run) {
  Gates out;
  FOVEA_ASSIGN_OR_RETURN(out.profile, profile_of_model(run));
  const auto session = engine::Session::create(
      run.model(), {.numerics = run.numerics(), .attention = "duo-attention", .profile = out.profile});
  if (!session) {
    if (session.error().code != ErrorCode::kUsage) return session.error();
    out.why = session.error().message;
    return out;
  }
  if (run.model()->source().find_tensor("duo-attention.gate")) {
    const tensor::Parameter gate = (*session)->pipeline().methods()[0]->parameters()[0];
    const tensor::Tensor values = tensor::weight_values(*gate.target);
    out.values.assign(values.values().begin(), values.values().end());
  } else {
    out.values = *out.profile->find("duo_gate", attention::Granularity::kKvHead);
  }
  return out;
}

std::string with_window(const Run& run, const std::string& knobs) {
  return fmt::format("duo-attention:sink={}:recent={}{}", run.number("sink"), run.number("recent"), knobs);
}

Result<double> passkeys(Run& run, const Gates& gates, const std::string& attention) {
  const TaskRun task{.task = run.word("task"),
                     .length = run.lengths("length", kAnswer)[0],
                     .n_samples = run.number("samples"),
                     .profile = gates.profile,
                     .columns = {"duo_gate"}};
  FOVEA_ASSIGN_OR_RETURN(const TaskScore score, task_score(run, attention, task));
  return score.score;
}
Result<double> loss(Run& run, const Gates& gates, const std::string& attention) {
  const TaskRun task{.task = "nll",
                     .length = run.lengths("short", 0)[0],
                     .n_samples = run.number("samples"),
                     .asking = tasks::Asking::kLater,
                     .profile = gates.profile,
                     .columns = {"duo_gate"}};
  FOVEA_ASSIGN_OR_RETURN(const TaskScore score, task_score(run, attention, task));
  return score.nll;
}
Result<Drawn> drawn(Run& run, const Gates& gates) {
  Drawn out;
  for (int draw = 0; draw < run.number("draws"); ++draw) {
    FOVEA_ASSIGN_OR_RETURN(
        const double score,
        passkeys(run, gates, with_window(run, fmt::format(":sparsity=0.5:gates=random:seed={}", draw))));
    out.mean += score / run.number("draws");
    out.best = std::max(out.best, score);
  }
  return out;
}

}  // namespace fovea::papers::duo_attention
