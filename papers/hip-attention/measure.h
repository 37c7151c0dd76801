// What the checks of hip-attention measure: its rows beside plain loops, what of dense attention's weight searches
// find.
#pragma once

#include <map>
#include <string>

#include "papers/hip-attention/search.h"
#include "papers/support/decode_run.h"
#include "papers/support/task_run.h"

namespace fovea::papers::hip_attention {

// Decoded rows of heads in the model's layers whose keys are those of the search by plain loops. `worst`: the largest
// share of the searched keys' weight by which what they hold differs. `weights`, `z`: the largest differences of their
// weights from dense attention's over the keys that are read, and of z from what those weigh, by z's largest number.
struct Compared {
  int n_rows = 0, n_alike = 0;
  double worst = 0, weights = 0, z = 0;
};
// `exact`: with the highest key of a chunk as its representative and blocks of one key, beside the k highest keys.
Result<Compared> compared(Run& run, bool exact);

// Rows of one made-up head, likewise exact: compared, and alike.
struct Planted {
  int n_rows = 0, n_alike = 0;
};
Planted planted();

SearchShape shape_of(const Run& run);
std::string with_keys(const Run& run, const std::string& knobs = {});  // the method with the settings' numbers
std::string window(const Run& run);                                    // as many last keys, beside the sinks
int dense_layers();                                                    // first ones, which are not counted below

// Means over decoded rows, heads, and the layers that are searched. A cell.
struct Found {
  Recall recall;
  int n_rows = 0;                    // none: the text is too short to be searched
  std::map<int32_t, double> scored;  // keys that a row scores, by the keys before it
  std::map<int32_t, double> bound;   // and how many it may: 2 k ceil(log2(blocks / budget))
};
Result<Found> found(Run& run);

// Checks of losses and times (cost.cc).
Result<Outcome> perplexity(Run& run);
Result<Outcome> prompt_time(Run& run);
Result<Outcome> refresh_time(Run& run);
Result<Outcome> refresh_loss(Run& run);

}  // namespace fovea::papers::hip_attention
