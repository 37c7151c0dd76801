// Scores of single query heads as a plan stands: what their rows would read now.
#pragma once

#include <cstdint>

#include "fovea/attention/key_plan.h"
#include "fovea/base/threads.h"
#include "fovea/kernels/attention.h"

namespace fovea::attention {

// Scaled scores of the rows first..first + n, all of one tile, of query head g of a KV head's group over the slots of
// its pages, [n, slots]: -inf where a row does not see the slot; pages past `slots`, which methods have added, are left
// out. args_of(turn): those rows of that head, with queries
// so turned and scratch for them, no pages yet.
void plan_scores(const KeyPlan& plan, int kv_head, int g, int64_t first, int64_t n,
                 FunctionRef<kernels::AttentionArgs(int turn)> args_of, float* to, int64_t slots);

}  // namespace fovea::attention
