#include "fovea/attention/plan_scores.h"

#include <algorithm>
#include <limits>
#include <vector>

namespace fovea::attention {

using kernels::AttentionArgs;
using kernels::kPageKeys;

void plan_scores(const KeyPlan& plan, int kv_head, int g, int64_t first, int64_t n,
                 FunctionRef<AttentionArgs(int turn)> args_of, float* to, int64_t slots) {
  if (!plan.touched(kv_head)) {
    const std::span<const KeyBlock> pages = plan.pages(kv_head);
    AttentionArgs args = args_of(0);
    args.blocks = pages.data();
    args.n_blocks = static_cast<int64_t>(pages.size());
    args.rule = plan.rules(kv_head)[static_cast<size_t>(g)];
    return kernels::attention_scores(args, 0, to, slots);
  }
  std::fill_n(to, n * slots, -std::numeric_limits<float>::infinity());
  int t = 0;
  while (first >= plan.first_row(t) + plan.n_rows(t)) ++t;
  const KeyPlan::Tile& tile = plan.tile(kv_head, t);
  std::vector<KeyBlock> list;
  std::vector<uint32_t> bits;
  std::vector<const uint32_t*> masks;
  std::vector<float> part_scores;
  for (const KeyPlan::Part& part : tile.parts) {
    if (part.head != KeyPlan::kAllHeads && part.head != g) continue;
    list.clear(), masks.clear();
    bits.assign(part.pages.size() * static_cast<size_t>(n), 0);
    for (size_t p = 0; p < part.pages.size(); ++p) {
      const KeyPlan::Page& page = part.pages[p];
      list.push_back(plan.page(kv_head, page.index));
      uint32_t* mine = bits.data() + p * static_cast<size_t>(n);
      if (page.bits) std::copy_n(page.bits + g * tile.n + (first - tile.first), n, mine);
      masks.push_back(page.bits ? mine : nullptr);
    }
    const auto n_slots = static_cast<int64_t>(list.size()) * kPageKeys;
    part_scores.resize(static_cast<size_t>(n * n_slots));
    AttentionArgs of_part = args_of(part.turn);
    of_part.blocks = list.data();
    of_part.n_blocks = static_cast<int64_t>(list.size());
    of_part.rule = part.rules[static_cast<size_t>(g)];
    of_part.masks = masks.data();
    kernels::attention_scores(of_part, 0, part_scores.data(), n_slots);
    for (int64_t i = 0; i < n; ++i) {
      for (size_t p = 0; p < part.pages.size(); ++p) {
        if ((int64_t{part.pages[p].index} + 1) * kPageKeys > slots) continue;
        const float* from = part_scores.data() + i * n_slots + static_cast<int64_t>(p) * kPageKeys;
        float* row = to + i * slots + int64_t{part.pages[p].index} * kPageKeys;
        for (int slot = 0; slot < kPageKeys; ++slot) row[slot] = std::max(row[slot], from[slot] + part.bias);
      }
    }
  }
}

}  // namespace fovea::attention
