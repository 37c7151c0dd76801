// What the checks of act-attention-calibration measure: one layer's rows, hidden sinks of texts, questions with labels.
#pragma once

#include <string>
#include <vector>

#include "papers/support/decode_run.h"
#include "papers/support/task_run.h"

namespace fovea::papers::act {

// One layer of one head whose scores are given, with values that show its weights.
// The card's row [.5, .3, .2], whose second key is a sink -> its weights.
std::vector<double> row_by_hand();
// Rows of drawn scores by the method, and by the card's explicit form over the whole map, in plain loops and double.
struct Rows {
  double worst = 0, sums = 0, least = 1;  // largest distance; largest distance of a row's sum from 1; smallest weight
  int with_sinks = 0;
};
Rows whole_rows();    // a prompt that is read at once
Rows decoded_rows();  // tokens that are decoded behind a prompt: each by the map up to its own row

// Hidden sinks of texts: keys behind the first whose mean weight over the rows that see them, kLeastRows or more, is
// over kThreshold. A cell.
inline constexpr int kLeastRows = 32;
inline constexpr double kThreshold = 0.1;
struct Sinks {
  int texts = 0;
  std::vector<double> of_heads;            // how many, [n_layers * n_heads]
  double n = 0, marks = 0, marks_all = 0;  // sinks; share at tokens without letter and digit; of all keys
  double weight = 0, first = 0;            // mean weight of the sinks; of the first key in heads that have some
  std::string most;                        // the tokens that are sinks most often
};
Result<Sinks> hidden_sinks(Run& run);

// Questions that are answered by the likeliest of a few labels, each a token: two kinds of labels and two of choices.
struct Labelled {
  std::vector<int32_t> tokens, labels;
  size_t right = 0;
};
Result<std::vector<Labelled>> labelled(Run& run, int n);
// 1 or 0 for each of these samples. A cell of `what`.
Result<std::vector<double>> answered(Run& run, const std::string& attention, const std::vector<size_t>& samples,
                                     const std::string& what);

int skipped_layers(const Run& run);  // first and last ones that stay: two, where that leaves any
std::string calibrating(const Run& run, const std::vector<int>& heads, const std::string& knobs = {});
// The `candidates` heads with the most hidden sinks in the layers between, the most first: layer * n_heads + head.
Result<std::vector<int>> candidates(Run& run);

// Of one half of the samples the heads that gain there, alone; on the other half what all of them do together, by
// dense, sample by sample: 1, 0 or -1. `random`: as many other heads; `elsewhere`: as many other keys.
struct Split {
  size_t n_heads = 0;
  double dense = 0;  // share of right answers on the other half
  std::vector<double> gains, random, elsewhere;
};
Result<std::vector<Split>> filtered(Run& run);
struct Gain {
  double mean = 0, dense = 0;  // points; percent of dense
  double heads = 0;            // that were chosen, the mean over the splits
  tasks::Interval interval;    // of the mean, as a share
};
Gain gain_of(const std::vector<Split>& splits, std::vector<double> Split::*which, uint64_t seed);

}  // namespace fovea::papers::act
