// What the checks of token-select measure: made-up layers, votes by plain loops, weight that is read, checks of the
// Selection Cache.
#pragma once

#include <string>

#include "papers/support/decode_run.h"
#include "papers/support/task_run.h"

namespace fovea::papers::token_select {

// Of made-up layers. `apart`: z from dense attention's, where the list lacks only keys without weight, before all
// others; `voted`: whether one head's list has the keys with the highest q.k; `spike`: whether two KV heads read the
// key that the second one's query heads look for.
struct Planted {
  double apart = 0;
  int n_left_out = 0, n_rows = 0, n_alike = 0;  // of those; rows of one head that were compared, and that were alike
  bool spike = false;
};
Planted planted();

// Decoded rows of the model's layers (`vote`: soft) or KV heads (kv-head) whose keys are the ones that plain loops over
// dense attention's weights vote for. `worst`: the least share of the highest votes that a selection has.
struct Voted {
  int n_rows = 0, n_alike = 0;
  double worst = 1;
};
Result<Voted> voted(Run& run, const std::string& vote);

// The method with the settings' numbers of keys, and a window of as many.
std::string with_keys(const Run& run, const std::string& knobs);
std::string best_votes(const Run& run, const std::string& knobs = {});  // with the setting score-rope
std::string window(const Run& run);

// Of dense attention's weight, what lies between first and last keys on those that are voted for, on as many last ones
// and on each head's highest; and on first and last keys. Means over rows, layers and heads. A cell.
struct Mass {
  double voted = 0, window = 0, highest = 0, always = 0;
};
Result<Mass> mass(Run& run, const std::string& attention);

// Checks of the time of a step and of the Selection Cache (cache.cc).
Result<Outcome> step_time(Run& run);
Result<Outcome> never_reused(Run& run);
Result<Outcome> hits(Run& run);
Result<Outcome> staleness(Run& run);

}  // namespace fovea::papers::token_select
