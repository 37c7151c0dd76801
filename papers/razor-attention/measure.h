// What the checks of razor-attention measure: one layer of made-up keys, the probe, kept keys, errors of heads.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "papers/support/decode_run.h"
#include "papers/support/task_run.h"

namespace fovea::papers::razor_attention {

inline constexpr double kInduction = 0.14, kEcho = 0.01;  // shares of the KV heads that are protected

double mean_of(const std::vector<double>& values);

// Largest distances of a layer's decoded output, one head and made-up keys, that should be 0 but for rounding.
struct Planted {
  double on = 0, off = 0;  // from dense, all dropped keys equal; with the key that stands for them, and without
  double mean = 0;         // between one that dropped while decoding and one that dropped it all at once
};
Planted planted();

// The head profile of the run's model with razor_induction and razor_echo, which are measured here.
struct Probe {
  std::shared_ptr<const attention::HeadProfile> profile;
  std::vector<double> induction;  // of the KV heads, the maximum over their query heads
  std::vector<double> retrieval;  // likewise, of the profile; empty: it has none
};
Result<Probe> probe_heads(Run& run);
Result<Outcome> heavy_tail(Run& run);
Result<Outcome> overlap(Run& run);

// The method with the settings' ratio and buffer, and these further knobs.
std::string with_buffer(const Run& run, const std::string& knobs = {});
Result<TaskScore> score(Run& run, const Probe& probe, const std::string& task, const std::string& attention);

// Needle scores with other heads protected, as many: the mean over the draws, and the best of them.
struct Drawn {
  double mean = 0, best = 0;
};
Result<Drawn> drawn(Run& run, const Probe& probe);

// ||z - z of dense|| / ||z of dense|| of every query head over 16 decoded tokens of a text that dense attention read,
// no head protected. What goes on to the next layer is dense attention's z.
struct HeadErrors {
  std::vector<double> on, unweighted, off;
};
Result<HeadErrors> head_errors(Run& run);

}  // namespace fovea::papers::razor_attention
