// The loss of the last tokens of a text, read behind all that stands before them, and the time of a step.
#pragma once

#include <string>
#include <vector>

#include "papers/support/run.h"

namespace fovea::papers {

// The first tokens of one of the texts of the task "nll": this machine's licences, where there are none prose.
Result<std::vector<int32_t>> text_tokens(Run& run, int n_tokens, int text = 0);

struct TextRun {
  std::string attention = "dense";
  int n_scored = 64;    // last tokens
  int context = 0;      // of the text only so many last tokens are read; 0: all
  bool decoded = true;  // they are fed one by one, so that no row knows of later ones; else as the prompt's end
  bool beyond = false;  // the text may be longer than what the model was trained for
  attention::RowObserver* observer = nullptr;  // sees the rows of the scored tokens
};
struct TextLoss {
  double nll = 0;  // nats a token
  double ms = 0;   // of a decoded step, the median
};
Result<TextLoss> text_loss(Run& run, std::vector<int32_t> tokens, const TextRun& of);
// The same, a cell: its arm is the attention, `tokens` those of text_tokens().
Result<TextLoss> text_loss_cell(Run& run, int n_tokens, const TextRun& of);

// A check of a text past the length that the model was trained for, by the settings beyond (tokens past it), longest
// and scored: passes where the last tokens cost the method `percent` more than they cost dense attention behind as many
// as it was trained for, at most, and dense attention behind all of them 50 % more or worse. No data where that is
// longer than `longest`.
Result<Outcome> loss_beyond(Run& run, const std::string& method, const std::string& window, double percent);

}  // namespace fovea::papers
