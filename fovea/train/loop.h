// `fovea train`: a run from its config to a model, over interruptions. Prints nothing: who calls is told.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "fovea/base/result.h"

namespace fovea::train {

struct StepReport {
  int64_t step = 0, steps = 0;  // done, and those of the whole run
  double loss = 0;
  std::optional<double> eval_loss = {}, eval_accuracy = {};  // the latter of nets with classes, 0 to 1
  std::string_view unit = "tokens";                          // of what is counted in a second
  double tokens_per_second = 0, seconds_left = 0;
  uint64_t memory_bytes = 0;  // of the process, at its highest
};

struct TrainOptions {
  bool resume = false;   // from the checkpoint, if there is one
  bool restart = false;  // a checkpoint that is there may be lost
  int64_t steps = 0;     // > 0: the run ends here; its schedule stays that of the config
  const std::atomic<bool>* cancel = nullptr;
  std::string program = {};  // which program made the model: version and commit
  std::string go_on = {};    // the command that goes on with a run that was stopped; empty: fovea train's
  std::function<void(const StepReport&)> on_step = {};
  std::function<void(std::string_view sentence)> tell = {};
};

struct TrainResult {
  std::string out = {}, model = {};  // the folder, and what lies in it
  int64_t step = 0;                  // steps done, of all runs together
  double loss = 0;                   // of the last step
  std::optional<double> eval_loss = {}, eval_accuracy = {};
  std::string_view unit = "tokens";
  double tokens_per_second = 0;  // of this run, without evaluations
  double seconds = 0;            // of all runs together, as far as they count: from checkpoint to checkpoint
};

// kUsage and kData name the setting or the file that is wrong. kFailed: the loss or a gradient was no number any more,
// or far too large, with the step and the first bad tensor. kCancelled: a checkpoint was saved, and the message says
// how to go on. After any error the last checkpoint is whole.
Result<TrainResult> train(const std::string& config_path, const TrainOptions& options);

}  // namespace fovea::train
