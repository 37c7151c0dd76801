// fovea train CONFIG.json
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "apps/cli/commit.h"
#include "apps/cli/model_session.h"
#include "fovea/base/bytes.h"
#include "fovea/train/loop.h"

namespace fovea::cli {
namespace train_command {

struct Options {
  std::string config;
  bool resume = false, restart = false;
  int steps = 0;
};

std::string time_left(double seconds) {
  if (seconds < 90) return fmt::format("{:.0f} s", seconds);
  if (seconds < 5400) return fmt::format("{:.0f} min", seconds / 60);
  return fmt::format("{:.1f} h", seconds / 3600);
}

Status run(const Options& options, const Common& common) {
  const Interrupt interrupt;
  Progress bar("training", 0, "steps", 1.0, common.quiet);
  train::TrainOptions asked{.resume = options.resume,
                            .restart = options.restart,
                            .steps = options.steps,
                            .cancel = &Interrupt::flag(),
                            .program = fmt::format("fovea {} ({})", FOVEA_VERSION, commit())};
  asked.tell = [&](std::string_view sentence) {
    bar.clear();
    if (!common.quiet) tell("{}", sentence);
  };
  asked.on_step = [&](const train::StepReport& at) {
    if (at.eval_loss && !common.quiet) {
      bar.clear();
      tell("step {}: loss {:.4f}, held out {:.4f}", at.step, at.loss, *at.eval_loss);
    }
    bar.set_total(static_cast<uint64_t>(at.steps));
    bar.set_label(fmt::format("loss {:.4f}, {:.0f} tokens/s, {:.0f} MB, {} left", at.loss, at.tokens_per_second,
                              static_cast<double>(at.memory_bytes) / 1e6, time_left(at.seconds_left)));
    bar.update(static_cast<uint64_t>(at.step));
  };
  const auto trained = train::train(options.config, asked);
  bar.clear();
  if (!trained) return trained.error();
  if (common.json) {
    nlohmann::json out = {{"out", trained->out},   {"model", trained->model},
                          {"step", trained->step}, {"loss", trained->loss},
                          {"eval_loss", nullptr},  {"tokens_per_second", trained->tokens_per_second}};
    if (trained->eval_loss) out["eval_loss"] = *trained->eval_loss;
    return print_json(out);
  }
  return print(fmt::format(
      "{}: {} steps, loss {:.4f}{}, {:.0f} tokens/s\n", escaped_line(trained->model), trained->step, trained->loss,
      trained->eval_loss ? fmt::format(", held out {:.4f}", *trained->eval_loss) : "", trained->tokens_per_second));
}

std::function<Status()> setup(CommandLine& sub, Common& common) {
  auto options = std::make_shared<Options>();
  sub.add_option("CONFIG", options->config, "a .json file: the model, the data, the optimizer (docs/train.md)")
      .required();
  const Option resume = sub.add_flag("--resume", options->resume, "go on from the checkpoint in the folder \"out\"");
  sub.add_flag("--restart", options->restart, "begin anew, though there is a checkpoint").excludes(resume);
  sub.add_option("--steps", options->steps, "end behind this step; the schedule stays that of the config")
      .transform(in_range(int64_t{1}, int64_t{1} << 30));
  return [options, &common] { return run(*options, common); };
}

FOVEA_COMMAND("train", "train a model, a part of one or a LoRA as a config says", "fovea train examples/induction.json",
              setup)

}  // namespace train_command
}  // namespace fovea::cli
