// One plan for each head, the costs least in sum while the sizes of all plans together keep within budgets, and no
// layer has more than two different plans: the integer program of MoA, arXiv:2406.14909, sec. 4.3, solved exactly.
// Multipliers of the budgets give a lower bound; choices that are further above it than the best one found are left
// out, and what is left goes through all layers by the sizes taken so far.
#pragma once

#include <cstdint>
#include <vector>

#include "fovea/base/result.h"

namespace fovea::probe {

struct HeadPlans {
  std::vector<std::vector<size_t>> plans;  // of each head of each layer
  double cost = 0;
  double bound = 0;  // no choice costs less: the bound of the multipliers
};
// costs[layer][head][plan], 0 or more; sizes[plan][budget], 0 or more, the same for all heads. kUsage for shapes that
// do not fit, kData if nothing keeps within the budgets, kLimit if more than `max_states` partial choices have to be
// kept.
Result<HeadPlans> choose_head_plans(const std::vector<std::vector<std::vector<double>>>& costs,
                                    const std::vector<std::vector<int64_t>>& sizes, const std::vector<int64_t>& budgets,
                                    size_t max_states = size_t{1} << 21);

}  // namespace fovea::probe
