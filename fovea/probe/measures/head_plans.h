// One plan for each head, the costs least in sum while the sizes of all plans together keep within budgets, and no
// layer has more than two different plans: the integer program of MoA, arXiv:2406.14909, sec. 4.3.
// Multipliers of the budgets give a lower bound and a first choice, which is made better layer by layer. Choices that
// are further above the bound than that are left out, and what is left goes through all layers by the sizes taken so
// far: the least of it is the optimum. Where that would be too much, the first choice stands, with its distance.
#pragma once

#include <cstdint>
#include <vector>

#include "fovea/base/result.h"

namespace fovea::probe {

struct HeadPlans {
  std::vector<std::vector<size_t>> plans;  // of each head of each layer
  double cost = 0;
  double bound = 0;     // no choice costs less: the bound of the multipliers
  bool optimal = true;  // proved; else the best choice may lie anywhere between bound and cost
};
// costs[layer][head][plan], 0 or more; sizes[plan][budget], 0 or more, the same for all heads. kUsage for shapes that
// do not fit, kData if nothing keeps within the budgets, kLimit if no choice was found before more than `max_states`
// partial ones had to be kept.
Result<HeadPlans> choose_head_plans(const std::vector<std::vector<std::vector<double>>>& costs,
                                    const std::vector<std::vector<int64_t>>& sizes, const std::vector<int64_t>& budgets,
                                    size_t max_states = size_t{1} << 18);

}  // namespace fovea::probe
