// A short dense or edited run, for the checks that most papers have: an idle method changes no bit, looking costs
// little.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "papers/support/run.h"

namespace fovea::papers {

struct DecodeRun {
  int n_keys = 0;               // in the end
  std::vector<float> logits;    // of every step, one after the other
  std::vector<double> seconds;  // that every step took
};
struct DecodeOptions {
  std::string attention = "dense";
  int n_prompt = 40, n_decoded = 8;                      // random tokens; as many as the model reads at most
  attention::RowObserver* observer = nullptr;            // sees the decoded rows
  std::function<void(int32_t token)> on_step = nullptr;  // after each step, with the token that was fed
};
Result<DecodeRun> decode_run(Run& run, const DecodeOptions& options);

// Whether a decoding under `attention`, with knobs that do nothing, has the bits of dense.
Result<Outcome> same_bits(Run& run, const std::string& attention);

double median(std::vector<double> values);  // 0 of none

}  // namespace fovea::papers
