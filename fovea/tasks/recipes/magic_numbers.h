// What RULER's needle tasks share (arXiv:2404.06654, sec. 3 and app. B): sentences that give keys numbers.
#pragma once

#include <string>
#include <vector>

#include "fovea/tasks/task.h"

namespace fovea::tasks {

struct MagicNumbers {
  int n_asked = 1;   // keys that are asked for
  int n_others = 0;  // keys besides
  int n_values = 1;  // numbers of each key
  int digits = 7;
};
// A haystack with a sentence for each number. The first number of an asked key lies at the depth of its question, all
// others anywhere.
Writing hide_magic_numbers(Draw& draw, const MagicNumbers& numbers);

}  // namespace fovea::tasks
