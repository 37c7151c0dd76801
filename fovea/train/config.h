// The numbers of a training config (docs/train.md); parts that have a name are read where they are made.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "fovea/train/settings.h"
#include "fovea/train/trainer.h"

namespace fovea::train {

struct TrainConfig {
  explicit TrainConfig(Settings& settings);

  int64_t context;  // 0: not said
  int64_t batch, accumulate, steps, checkpoint_every, keep_every;
  bool shuffled, recompute;
  uint64_t seed;
  TrainerOptions trainer;
  double max_loss;  // 0: ten times the first one, and ten more
  std::string out;
  struct Eval {
    bool on = false;
    int64_t every = 0, samples = 0;  // 0: all of them, of a generator 64
  } eval;
  struct EarlyStop {
    int64_t patience = 0;  // evaluations without a better loss; 0: it does not stop
    double min_delta = 0;
  } early_stop;
};

// The first setting in which `now` is not what a checkpoint was made with, as a sentence; empty: none. Where a run ends
// and how often it looks up may change.
std::string other_setting(const nlohmann::ordered_json& then, const nlohmann::ordered_json& now);

}  // namespace fovea::train
