#include "apps/cli/train_progress.h"

#include <fmt/format.h>

#include "apps/cli/commit.h"

namespace fovea::cli {
namespace {

std::string time_left(double seconds) {
  if (seconds < 90) return fmt::format("{:.0f} s", seconds);
  if (seconds < 5400) return fmt::format("{:.0f} min", seconds / 60);
  return fmt::format("{:.1f} h", seconds / 3600);
}

}  // namespace

std::string held_out(double loss, std::optional<double> accuracy) {
  return fmt::format(", held out {:.4f}{}", loss, accuracy ? fmt::format(", {:.1f} % right", 100 * *accuracy) : "");
}

train::TrainOptions TrainProgress::options() {
  train::TrainOptions out;
  out.cancel = &Interrupt::flag();
  out.program = fmt::format("fovea {} ({})", FOVEA_VERSION, commit());
  out.tell = [this](std::string_view sentence) {
    bar_.clear();
    if (!common_.quiet) tell("{}", sentence);
  };
  out.on_step = [this](const train::StepReport& at) {
    if (at.eval_loss && !common_.quiet) {
      bar_.clear();
      tell("step {}: loss {:.4f}{}", at.step, at.loss, held_out(*at.eval_loss, at.eval_accuracy));
    }
    bar_.set_total(static_cast<uint64_t>(at.steps));
    bar_.set_label(fmt::format("loss {:.4f}, {:.0f} {}/s, {:.0f} MB, {} left", at.loss, at.tokens_per_second, at.unit,
                               static_cast<double>(at.memory_bytes) / 1e6, time_left(at.seconds_left)));
    bar_.update(static_cast<uint64_t>(at.step));
  };
  return out;
}

}  // namespace fovea::cli
