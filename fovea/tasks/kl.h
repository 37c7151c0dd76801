// How far one session's predictions are from another's: KL(reference || other) = sum over the vocabulary of
// p log(p / q), in nats, for each scored token of a text's windows.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>

#include "fovea/tasks/windows.h"

namespace fovea::tasks {

// Of two rows of n logits, summed in double precision; never below 0.
double kl_divergence(const float* reference, const float* other, int64_t n);

struct Divergence {
  double mean = 0, p99 = 0, max = 0;  // p99: linear between the two nearest
  double same_top = 0;                // share of tokens whose likeliest is the same in both
  size_t n_scored = 0;
};
struct DivergenceOptions {
  std::function<void(size_t done)> progress;  // tokens of all windows
  const std::atomic<bool>* cancel = nullptr;  // looked at in every layer: kCancelled
};
// Both sessions go through a window side by side, so that only a few rows of logits are kept. Their sequences are
// gone again when it returns.
Result<Divergence> measure_divergence(engine::Session& reference, engine::Session& other, const Windows& windows,
                                      const DivergenceOptions& options = {});

}  // namespace fovea::tasks
