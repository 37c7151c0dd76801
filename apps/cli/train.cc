// fovea train CONFIG.json
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "apps/cli/command.h"
#include "apps/cli/ranges.h"
#include "apps/cli/train_progress.h"
#include "fovea/base/bytes.h"
#include "fovea/train/loop.h"

namespace fovea::cli {
namespace train_command {

struct Options {
  std::string config;
  bool resume = false, restart = false;
  int steps = 0;
};

Status run(const Options& options, const Common& common) {
  TrainProgress progress(common);
  train::TrainOptions asked = progress.options();
  asked.resume = options.resume, asked.restart = options.restart, asked.steps = options.steps;
  const auto trained = train::train(options.config, asked);
  progress.clear();
  if (!trained) return trained.error();
  if (common.json) {
    nlohmann::json out = {{"out", trained->out},   {"model", trained->model},
                          {"step", trained->step}, {"loss", trained->loss},
                          {"eval_loss", nullptr},  {"tokens_per_second", trained->tokens_per_second}};
    if (trained->eval_loss) out["eval_loss"] = *trained->eval_loss;
    if (trained->eval_accuracy) out["eval_accuracy"] = *trained->eval_accuracy;
    return print_json(out);
  }
  return print(fmt::format(
      "{}: {} steps, loss {:.4f}{}{}\n", escaped_line(trained->model), trained->step, trained->loss,
      trained->eval_loss ? held_out(*trained->eval_loss, trained->eval_accuracy) : "",
      trained->tokens_per_second > 0 ? fmt::format(", {:.0f} {}/s", trained->tokens_per_second, trained->unit) : ""));
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
