// What the checks of longheads measure: made-up layers, chunks by plain loops, how many of them all heads reach.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "papers/support/decode_run.h"
#include "papers/support/task_run.h"

namespace fovea::papers::longheads {

// Of made-up layers. `apart`: z from dense attention's, where the chunks that are not read have no weight and the rest
// keep their distances; `own`: the least weight of a row's own key where it should have nearly all; rows and heads that
// were compared, and whose chunks are those that the closed form of a chunk's key ranks first.
struct Planted {
  double apart = 0, own = 1;
  int n_rows = 0, n_alike = 0;
};
Planted planted();

// Chunks that the model's heads pick in decoded rows, beside those that plain loops over its q, k and v pick. `worst`:
// how much less the picked ones score, by the range of scores.
struct Picked {
  int n_rows = 0, n_alike = 0;
  double worst = 0;
};
Result<Picked> picked(Run& run);

std::string with_chunks(const Run& run, const std::string& knobs = {});
int budget(const Run& run);      // keys of the chunks that a row reads
std::string window(int n_keys);  // as many, the last ones

// Distinct chunks that the heads and layers of a decoded row read, the fewest of a few rows, and how many there are.
struct Coverage {
  int distinct = 0, of = 0;
};
Result<Coverage> coverage(Run& run);

// Checks past the trained length, of a text and of prompts with a needle, and of the time of a step (long.cc).
Result<Outcome> text_beyond(Run& run);
Result<Outcome> needles_beyond(Run& run);
Result<Outcome> step_time(Run& run);

}  // namespace fovea::papers::longheads
