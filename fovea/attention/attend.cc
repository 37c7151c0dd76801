#include "fovea/attention/attend.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>

#include "fovea/base/check.h"
#include "fovea/base/threads.h"
#include "fovea/tensor/ops/attention/attention.h"

namespace fovea::attention {
namespace {

using kernels::KeyBlock;
using kernels::kPageKeys;
using tensor::Tensor;

bool is_inside(const KeyRule& a, const KeyRule& b) {
  return b.window == KeyRule().window || (a.n_sink <= b.n_sink && a.window <= b.window);
}

bool sees(const KeyRule& rule, int32_t q_pos, int32_t key) {
  return key <= q_pos && (key < rule.n_sink || static_cast<int64_t>(key) > static_cast<int64_t>(q_pos) - rule.window);
}

// The keys of a page that a rule lets through, as bits; dead slots see nothing.
uint32_t seen_slots(const KeyRule& rule, int32_t q_pos, const KeyBlock& block) {
  uint32_t bits = 0;
  for (int slot = 0; slot < kPageKeys; ++slot)
    bits |= static_cast<uint32_t>(sees(rule, q_pos, block.positions[slot])) << slot;
  return bits;
}

// How many of the positions 0..q_pos a rule lets through.
uint64_t visible(const KeyRule& rule, int32_t q_pos) {
  const int64_t all = static_cast<int64_t>(q_pos) + 1;
  const int64_t outside = std::max<int64_t>(0, all - rule.window);
  return static_cast<uint64_t>(all - outside + std::min<int64_t>(outside, rule.n_sink));
}

}  // namespace

Attend::Attend(const Context& context)
    : c_(context),
      memory_(context.memory ? *context.memory : own_memory_),
      scale_(1.0f / std::sqrt(static_cast<float>(context.model.head_dim))) {
  const Batch& batch = c_.batch;
  FOVEA_CHECK(!memory_.in_use, "attend: a forward pass was begun inside another of the same session");
  memory_.in_use = true;
  memory_.runs.clear();
  for (int64_t begin = 0; begin < batch.size();) {
    const auto at = static_cast<size_t>(begin);
    int64_t end = begin + 1;
    while (end < batch.size() && batch.sequences[static_cast<size_t>(end)] == batch.sequences[at]) ++end;
    memory_.runs.push_back({batch.sequences[at], begin, end,
                            std::span(batch.positions).subspan(at, static_cast<size_t>(end - begin)),
                            batch.decoding[at], memory_.runs.size() * static_cast<size_t>(context.model.n_kv_heads)});
    if (c_.cache) c_.cache->create(batch.sequences[at]);
    begin = end;
  }
  const size_t n_plans = memory_.runs.size() * static_cast<size_t>(context.model.n_kv_heads);
  if (memory_.plans.size() < n_plans) memory_.plans.resize(n_plans);  // the others keep their vectors
  angles_ = tensor::make_rope_angles(batch.positions, c_.rope);
}

Tensor Attend::on_tape(const Tensor& q, const Tensor& k, const Tensor& v) const {
  FOVEA_CHECK(n_methods() == 0, "attend: methods have no gradients yet; use the dense pipeline on the tape");
  return tensor::attention(q, k, v, c_.batch.positions, c_.batch.sequences, {.scale = scale_});
}

LayerView Attend::view(const Run& run, int layer, size_t method) const {
  return {c_.model, layer, run.sequence, run.positions, run.decoding, c_.pipeline->state(method, run.sequence)};
}

bool Attend::edit_inputs(int layer, Tensor& q, Tensor& k, Tensor& v, tensor::RopeAngles& angles) {
  std::vector<size_t> editors;
  for (size_t m = 0; m < n_methods(); ++m) {
    if (c_.pipeline->methods()[m]->edits_inputs(layer)) editors.push_back(m);
  }
  if (editors.empty()) return false;
  std::vector<int32_t> positions;
  for (const Run& run : memory_.runs) {
    const auto rows = [&](const Tensor& t) {
      const int64_t row = t.dim(1) * t.dim(2);
      return Tensor::from({run.n(), t.dim(1), t.dim(2)},
                          t.values().subspan(static_cast<size_t>(run.begin * row), static_cast<size_t>(run.n() * row)));
    };
    Tensor mine[] = {rows(q), rows(k), rows(v)};
    std::vector<int32_t> moved(run.positions.begin(), run.positions.end());
    InputTile tile{mine[0], mine[1], mine[2], moved};
    for (const size_t m : editors) c_.pipeline->methods()[m]->edit_inputs(view(run, layer, m), tile);
    FOVEA_CHECK(static_cast<int64_t>(moved.size()) == run.n(), "attend: the shape stage left {} positions for {} rows",
                moved.size(), run.n());
    positions.insert(positions.end(), moved.begin(), moved.end());
    Tensor* whole[] = {&q, &k, &v};
    for (int i = 0; i < 3; ++i) {
      const int64_t row = whole[i]->dim(1) * whole[i]->dim(2);
      FOVEA_CHECK(mine[i].elements() == run.n() * row, "attend: the shape stage made {} of {} rows",
                  mine[i].shape().to_string(), run.n());
      std::copy_n(mine[i].data(), mine[i].elements(), whole[i]->data() + run.begin * row);
    }
  }
  angles = tensor::make_rope_angles(positions, c_.rope);
  return true;
}

Tensor Attend::operator()(int layer, Tensor q, Tensor k, Tensor v) {
  q = hook(Site::kQ, layer, std::move(q));
  k = hook(Site::kK, layer, std::move(k));
  v = hook(Site::kV, layer, std::move(v));
  if (!c_.cache) {
    q = hook(Site::kRotQ, layer, tensor::rope(q, angles_));
    k = hook(Site::kRotK, layer, tensor::rope(k, angles_));
    return hook(Site::kZ, layer, on_tape(q, k, v));  // in one op: no scores or pattern to show
  }

  tensor::RopeAngles moved;
  const tensor::RopeAngles* angles = &angles_;
  if (edit_inputs(layer, q, k, v, moved)) angles = &moved;
  q = hook(Site::kRotQ, layer, tensor::rope(q, *angles));
  k = hook(Site::kRotK, layer, tensor::rope(k, *angles));

  store(layer, k, v);
  for (const Run& run : memory_.runs) {
    for (int kv_head = 0; kv_head < c_.model.n_kv_heads; ++kv_head) make_plan(run, layer, kv_head);
  }

  Tensor z = Tensor::empty(q.shape());
  fused(q, z);
  for (const Run& run : memory_.runs) {
    if (c_.hooks && (c_.hooks->wants(Site::kScores, layer) || c_.hooks->wants(Site::kPattern, layer))) {
      hooked_rows(run, layer, q, z);
    } else {
      materialised(run, layer, q, z);
    }
    edit_outputs(run, layer, z);
  }
  return hook(Site::kZ, layer, std::move(z));
}

void Attend::store(int layer, const Tensor& k, const Tensor& v) {
  constexpr int64_t kInlineRows = 16;  // below, one thread is faster than waking the others
  const int n_kv_heads = c_.model.n_kv_heads, head_dim = c_.model.head_dim;
  const auto store_head = [&](int64_t head, int) {
    for (const Run& run : memory_.runs) {
      for (int64_t i = run.begin; i < run.end; ++i) {
        const int64_t at = (i * n_kv_heads + head) * head_dim;
        c_.cache->append(run.sequence, layer, static_cast<int>(head), run.positions[static_cast<size_t>(i - run.begin)],
                         k.data() + at, v.data() + at);
      }
    }
  };
  if (c_.batch.size() >= kInlineRows) {
    pool().for_each(n_kv_heads, store_head);
  } else {
    for (int head = 0; head < n_kv_heads; ++head) store_head(head, 0);
  }
}

// The gate and keep stages.
void Attend::edit_outputs(const Run& run, int layer, Tensor& z) {
  const int head_dim = c_.model.head_dim;
  const int64_t ld = static_cast<int64_t>(c_.model.n_heads) * head_dim;
  for (size_t m = 0; m < n_methods(); ++m) {
    const Method& method = *c_.pipeline->methods()[m];
    for (int head = 0; head < c_.model.n_heads; ++head) {
      if (method.edits_output(layer, head, run.decoding))
        method.edit_output(view(run, layer, m), head, z.data() + run.begin * ld + head * head_dim, ld);
    }
    method.keep(view(run, layer, m), *c_.cache);
  }
}

void Attend::make_plan(const Run& run, int layer, int kv_head) {
  const int group = c_.model.group();
  HeadPlan& plan = this->plan(run, kv_head);
  plan.blocks = c_.cache->blocks(run.sequence, layer, kv_head);
  plan.rules.assign(static_cast<size_t>(group), KeyRule());
  plan.mask.clear();
  const std::span<const KeyBlock> blocks = plan.blocks;
  const auto mask = [&]() -> KeyMask {
    if (plan.mask.empty()) plan.mask.assign(static_cast<size_t>(run.n() * group) * blocks.size(), ~uint32_t{0});
    return {blocks, run.n(), group, plan.mask};
  };
  for (size_t m = 0; m < n_methods(); ++m) {
    const Method& method = *c_.pipeline->methods()[m];
    for (int g = 0; g < group; ++g) {
      const KeyRule rule = method.rule(layer, kv_head * group + g);
      KeyRule& current = plan.rules[static_cast<size_t>(g)];
      if (is_inside(rule, current)) {
        current = rule;
      } else if (!is_inside(current, rule)) {  // neither holds the other: bits
        const KeyMask keys = mask();
        for (int64_t i = 0; i < run.n(); ++i) {
          for (size_t b = 0; b < blocks.size(); ++b) {
            keys.bits[static_cast<size_t>(i * group + g) * blocks.size() + b] &=
                seen_slots(rule, run.positions[static_cast<size_t>(i)], blocks[b]);
          }
        }
      }
    }
    if (method.chooses_keys(layer, kv_head)) {
      KeyMask keys = mask();
      method.choose_keys(view(run, layer, m), kv_head, keys);
    }
  }
  count_keys(run, plan);
}

void Attend::count_keys(const Run& run, const HeadPlan& plan) {
  const size_t n_blocks = plan.blocks.size();
  for (size_t i = 0; i < run.positions.size(); ++i) {
    const int32_t p = run.positions[i];
    keys_.dense += static_cast<uint64_t>(p + 1) * plan.rules.size();
    for (size_t g = 0; g < plan.rules.size(); ++g) {
      const KeyRule& rule = plan.rules[g];
      if (plan.mask.empty()) {
        keys_.seen += visible(rule, p);
        continue;
      }
      const uint32_t* bits = plan.mask.data() + (i * plan.rules.size() + g) * n_blocks;
      for (size_t b = 0; b < n_blocks; ++b) {
        if (bits[b] != 0)
          keys_.seen += static_cast<uint64_t>(std::popcount(bits[b] & seen_slots(rule, p, plan.blocks[b])));
      }
    }
  }
}

}  // namespace fovea::attention
