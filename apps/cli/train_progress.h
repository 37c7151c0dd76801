// What a person sees while something trains: a bar, and a line for each evaluation.
#pragma once

#include <optional>
#include <string>

#include "apps/cli/command.h"
#include "apps/cli/progress.h"
#include "fovea/train/loop.h"

namespace fovea::cli {

// ", held out 0.0496, 98.3 % right", the latter where there are classes.
std::string held_out(double loss, std::optional<double> accuracy);

class TrainProgress {
 public:
  explicit TrainProgress(const Common& common) : common_(common), bar_("training", 0, "steps", 1.0, common.quiet) {}
  // They point to this. Ctrl+C stops the training.
  train::TrainOptions options();
  void clear() { bar_.clear(); }

 private:
  const Common& common_;
  const Interrupt interrupt_;
  Progress bar_;
};

}  // namespace fovea::cli
