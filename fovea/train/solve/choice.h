// One option for each item, the costs least in sum while sizes keep within budgets (the multiple-choice knapsack, with
// several budgets): exact, by keeping every partial choice that no other beats in cost and all sizes at once.
#pragma once

#include <cstdint>
#include <vector>

#include "fovea/base/result.h"

namespace fovea::train {

struct ItemOption {
  double cost = 0;
  std::vector<int64_t> sizes;  // 0 or more, one for each budget
};
// The option of each item. kUsage for wrong sizes or costs, kData if nothing fits, kLimit if more than `max_states`
// partial choices have to be kept.
Result<std::vector<size_t>> choose_options(const std::vector<std::vector<ItemOption>>& items,
                                           const std::vector<int64_t>& budgets, size_t max_states = size_t{1} << 22);

}  // namespace fovea::train
