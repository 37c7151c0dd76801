#include "fovea/attention/attend.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "fovea/attention/attend_layer.h"
#include "fovea/base/check.h"
#include "fovea/base/threads.h"
#include "fovea/kernels/seen_keys.h"
#include "fovea/tensor/edit_guard.h"
#include "fovea/tensor/ops/shape/copy.h"

namespace fovea::attention {
namespace {

using kernels::KeyBlock;
using kernels::kPageKeys;
using tensor::Tensor;

// A window's keys stay this much longer, so that drafted tokens can be taken back.
constexpr int32_t kWindowSlack = 64;
// They go by whole segments: those that stay keep their place in the sums, whenever others went.
constexpr int64_t kWindowStep = kSegmentPages * kernels::kPageKeys;

// How many of the positions 0..q_pos a rule lets through.
uint64_t visible(const KeyRule& rule, int32_t q_pos, int64_t n_keys) {
  const int64_t upto = int64_t{q_pos} + 1, all = std::min(upto + rule.ahead, std::max(n_keys, upto));
  const int64_t outside = std::max<int64_t>(0, upto - rule.window);
  return static_cast<uint64_t>(all - outside + std::min<int64_t>(outside, rule.n_sink));
}

Tensor rows_of(const Tensor& x, int64_t begin, int64_t end) {
  return !x.defined() || end - begin == x.dim(0) ? x : tensor::slice(x, 0, begin, end);
}

// What lies one after the other in rows.
Tensor together(const std::vector<Tensor>& parts) { return parts.size() == 1 ? parts[0] : tensor::concat(parts, 0); }

}  // namespace

void check_not_edited(const tensor::EditGuard& guard, const Method& method) {
  FOVEA_CHECK(!guard.edited(), "attend: {} writes into a value that has a gradient; put one made of it by ops there",
              method.info().name);
}

Attend::Attend(const Context& context) : c_(context), memory_(context.memory ? *context.memory : own_memory_) {
  const Batch& batch = c_.batch;
  FOVEA_CHECK(!memory_.in_use, "attend: a forward pass was begun inside another of the same session");
  memory_.runs.clear();
  for (int64_t begin = 0; begin < batch.size();) {
    const auto at = static_cast<size_t>(begin);
    int64_t end = begin + 1;
    while (end < batch.size() && batch.sequences[static_cast<size_t>(end)] == batch.sequences[at] &&
           batch.phases[static_cast<size_t>(end)] == batch.phases[at]) {
      ++end;
    }
    AttendMemory::Run run{batch.sequences[at],
                          begin,
                          end,
                          std::span(batch.positions).subspan(at, static_cast<size_t>(end - begin)),
                          batch.phases[at],
                          c_.pipeline,
                          {},
                          {},
                          batch.positions[static_cast<size_t>(end - 1)] + 1};
    for (const SequenceContext& own : c_.sequences) {
      if (own.sequence != run.sequence) continue;
      run.pipeline = own.pipeline;
      run.observers = own.observers;
      run.spans = own.spans;
      if (own.n_prompt > 0) run.n_prompt = own.n_prompt;
    }
    memory_.runs.push_back(run);
    if (c_.cache) c_.cache->create(run.sequence);
    if (run.pipeline && !run.pipeline->methods().empty())
      (void)run.pipeline->state(0, run.sequence);  // not in a thread
    begin = end;
  }
  while (memory_.plans.size() < memory_.runs.size()) memory_.plans.emplace_back();  // the others keep their memory
  if (memory_.turned_q.size() < memory_.runs.size()) memory_.turned_q.resize(memory_.runs.size());
  memory_.angles.resize(c_.ropes.size());
  memory_.in_use = true;  // last: what throws here has no destructor to take it back
}

Attend::~Attend() {
  for (tensor::RopeAngles& angles : memory_.angles) angles = {};  // their memory is the arena's
  for (std::vector<Tensor>& turned : memory_.turned_q) turned.clear();
  memory_.turned.clear();
  memory_.in_use = false;
}

const tensor::RopeAngles& Attend::angles_of(int rope) {
  tensor::RopeAngles& angles = memory_.angles.at(static_cast<size_t>(rope));
  if (!angles.cos.defined()) angles = tensor::make_rope_angles(c_.batch.positions, c_.ropes[static_cast<size_t>(rope)]);
  return angles;
}

// Layers ask for the same positions again and again.
const tensor::RopeAngles& Attend::angles_at(const std::vector<int32_t>& positions, int rope) {
  for (const AttendMemory::Turned& known : memory_.turned) {
    if (known.rope == rope && known.positions == positions) return known.angles;
  }
  memory_.turned.push_back({rope, positions, tensor::make_rope_angles(positions, c_.ropes[static_cast<size_t>(rope)])});
  return memory_.turned.back().angles;
}

Tensor Attend::turn(const Tensor& x, int rope) {
  return rope == AttentionShape::kNoRope ? x : tensor::rope(x, angles_of(rope));
}

Call Attend::call(const Run& run, int layer) const {
  const int rope = c_.model.site(layer).rope;
  return {.model = c_.model,
          .layer = layer,
          .sequence = run.sequence,
          .q_pos = run.positions,
          .phase = run.phase,
          .state = nullptr,
          .spans = run.spans,
          .n_prompt = run.n_prompt,
          .tokens = std::span(c_.batch.tokens).subspan(static_cast<size_t>(run.begin), static_cast<size_t>(run.n())),
          .rope = rope == AttentionShape::kNoRope ? nullptr : &c_.ropes[static_cast<size_t>(rope)]};
}

Call Attend::call(const Run& run, int layer, size_t method) const {
  Call of_method = call(run, layer);
  of_method.state = run.pipeline->state(method, run.sequence);
  return of_method;
}

Call Attend::call(const Run& run, int layer, size_t method, const Tensor& x, const Tensor& h) const {
  Call of_method = call(run, layer, method);
  of_method.x = rows_of(x, run.begin, run.end);
  of_method.h = rows_of(h, run.begin, run.end);
  return of_method;
}

bool Attend::edit_inputs(int layer, AttendInput& in, tensor::RopeAngles& angles) {
  const auto edits = [&](const auto& method) { return method->edits_inputs(layer); };
  const auto any = [&](const Run& run) { return std::any_of(methods(run).begin(), methods(run).end(), edits); };
  if (std::none_of(memory_.runs.begin(), memory_.runs.end(), any)) return false;
  std::vector<int32_t> positions;
  std::vector<Tensor> parts[3];
  Tensor* const whole[] = {&in.q, &in.k, &in.v};
  for (const Run& run : memory_.runs) {
    Inputs mine{rows_of(in.q, run.begin, run.end),
                rows_of(in.k, run.begin, run.end),
                rows_of(in.v, run.begin, run.end),
                {run.positions.begin(), run.positions.end()}};
    const Tensor* const values[] = {&mine.q, &mine.k, &mine.v};
    for (size_t m = 0; m < methods(run).size(); ++m) {
      const Method& method = *methods(run)[m];
      if (!edits(methods(run)[m])) continue;
      const tensor::EditGuard guards[] = {tensor::EditGuard(mine.q), tensor::EditGuard(mine.k),
                                          tensor::EditGuard(mine.v)};
      method.edit_inputs(call(run, layer, m, in.x, in.h), mine);
      FOVEA_CHECK(static_cast<int64_t>(mine.positions.size()) == run.n(), "attend: {} left {} positions for {} rows",
                  method.info().name, mine.positions.size(), run.n());
      for (int i = 0; i < 3; ++i) {
        check_not_edited(guards[i], method);
        const tensor::Shape wanted = whole[i]->shape().with_dim(0, run.n());
        FOVEA_CHECK(values[i]->defined() && values[i]->shape() == wanted, "attend: {} made {} of {}",
                    method.info().name, values[i]->shape().to_string(), wanted.to_string());
      }
    }
    positions.insert(positions.end(), mine.positions.begin(), mine.positions.end());
    for (int i = 0; i < 3; ++i) parts[i].push_back(*values[i]);
  }
  for (int i = 0; i < 3; ++i) *whole[i] = together(parts[i]);
  if (const int rope = c_.model.site(layer).rope; rope != AttentionShape::kNoRope) angles = angles_at(positions, rope);
  return true;
}

Tensor Attend::operator()(int layer, AttendInput in) {
  if (c_.cancel && c_.cancel->load(std::memory_order_relaxed)) throw Cancelled();
  in.q = hook(Site::kQ, layer, std::move(in.q));
  in.k = hook(Site::kK, layer, std::move(in.k));
  in.v = hook(Site::kV, layer, std::move(in.v));
  const AttentionShape shape = c_.model.site(layer);
  FOVEA_CHECK(!in.sinks.defined() || in.sinks.elements() == shape.n_heads, "attend: {} sinks for {} heads",
              in.sinks.elements(), shape.n_heads);
  FOVEA_CHECK(!in.by_distance.defined() || (in.by_distance.dim(0) == shape.n_heads && in.by_distance.dim(1) % 2 == 1),
              "attend: a bias by distance of {} for {} heads", in.by_distance.shape().to_string(), shape.n_heads);
  FOVEA_CHECK(c_.cache || !in.by_distance.defined(), "attend: a bias by distance has no gradient");
  FOVEA_CHECK(c_.cache || !shows_rows(layer), "attend: hook_attn_scores and hook_pattern do not fire on the tape");
  tensor::RopeAngles moved;
  const bool edited = edit_inputs(layer, in, moved);
  const auto turned = [&](const Tensor& x) {
    return edited && moved.cos.defined() ? tensor::rope(x, moved) : turn(x, shape.rope);
  };
  Layer at{.index = layer,
           .shape = shape,
           .x = in.x,
           .h = in.h,
           .sinks = in.sinks,
           .by_distance = in.by_distance,
           .plain = in.q,
           .q = hook(Site::kRotQ, layer, turned(in.q)),
           .z = {}};
  const Tensor k = hook(Site::kRotK, layer, turned(in.k));
  if (!c_.cache) return on_tape(at, k, in.v);
  store(at, memory_.runs, k, in.v);
  Tensor z = run_paths(at);
  // All rows have seen all keys; the next layer takes their memory.
  for (size_t r = 0; r < memory_.runs.size() && !shape.causal; ++r)
    c_.cache->truncate(memory_.runs[r].sequence, layer, 0);
  return z;
}

Tensor Attend::cross(int layer, Tensor q, Tensor k, Tensor v) {
  const AttentionShape shape = c_.model.site(layer);
  FOVEA_CHECK(memory_.runs.size() == 1, "attend: keys from elsewhere go with one sequence");
  FOVEA_CHECK(!shape.causal && shape.rope == AttentionShape::kNoRope,
              "attend: layer {} takes keys from elsewhere, so it must be neither causal nor turned", layer);
  q = hook(Site::kQ, layer, std::move(q));
  Layer at{.index = layer, .shape = shape, .plain = q, .q = q, .z = {}};
  if (k.defined()) {
    k = hook(Site::kK, layer, std::move(k));
    v = hook(Site::kV, layer, std::move(v));
  }
  if (!c_.cache) return hook(Site::kZ, layer, cross_on_tape(layer, q, k, v));
  if (k.defined()) {
    c_.cache->truncate(memory_.runs[0].sequence, layer, 0);
    std::vector<int32_t> positions(static_cast<size_t>(k.dim(0)));
    std::iota(positions.begin(), positions.end(), 0);
    Run keys = memory_.runs[0];
    keys.begin = 0, keys.end = k.dim(0), keys.positions = positions;
    store(at, {&keys, 1}, k, v);
  }
  return run_paths(at);
}

Tensor Attend::run_paths(Layer& layer) {
  const int l = layer.index;
  for (size_t run = 0; run < memory_.runs.size(); ++run) make_plan(layer, run, nullptr);
  layer.z = Tensor::empty({layer.q.dim(0), layer.shape.n_heads, layer.shape.v_dim});
  cut_tasks(layer);
  run_tasks(layer);
  for (size_t r = 0; r < memory_.runs.size(); ++r) {
    if (!layer.parts.empty() && layer.parts[r].n > 0) join_parts(layer, r);
    if (shows_rows(l)) hooked_rows(layer, r);
  }
  gate(layer);
  for (const Run& run : memory_.runs) keep(run, l);
  return hook(Site::kZ, l, std::move(layer.z));
}

bool Attend::shows_rows(int layer) const {
  return c_.hooks && (c_.hooks->wants(Site::kScores, layer) || c_.hooks->wants(Site::kPattern, layer));
}

void Attend::store(const Layer& layer, std::span<const Run> runs, const Tensor& k, const Tensor& v) {
  constexpr int64_t kInlineRows = 16;  // below, one thread is faster than waking the others
  const int n_groups = c_.cache->shape().layer(layer.index).n_groups();
  const int64_t k_row = k.dim(1) * k.dim(2), v_row = v.dim(1) * v.dim(2);
  const auto store_group = [&](int64_t group, int) {
    for (const Run& run : runs) {
      c_.cache->append(run.sequence, layer.index, static_cast<int>(group), run.positions,
                       k.data() + run.begin * k_row + group * (k_row / n_groups), k_row,
                       v.data() + run.begin * v_row + group * (v_row / n_groups), v_row);
    }
  };
  if (k.dim(0) >= kInlineRows) {
    pool().for_each(n_groups, store_group);
  } else {
    for (int group = 0; group < n_groups; ++group) store_group(group, 0);
  }
}

void Attend::gate(Layer& layer) {
  const auto any = [&](const Run& run) {
    const auto gates = [&](const auto& method) { return method->gates(layer.index, run.decoding()); };
    return std::any_of(methods(run).begin(), methods(run).end(), gates);
  };
  if (std::none_of(memory_.runs.begin(), memory_.runs.end(), any)) return;
  std::vector<Tensor> parts;
  for (const Run& run : memory_.runs) {
    Tensor z = rows_of(layer.z, run.begin, run.end);
    const tensor::Shape wanted = z.shape();
    for (size_t m = 0; m < methods(run).size(); ++m) {
      const Method& method = *methods(run)[m];
      if (!method.gates(layer.index, run.decoding())) continue;
      const tensor::EditGuard guard(z);
      method.gate(call(run, layer.index, m, layer.x, layer.h), z);
      check_not_edited(guard, method);
      FOVEA_CHECK(z.defined() && z.shape() == wanted, "attend: {} made {} of z {}", method.info().name,
                  z.shape().to_string(), wanted.to_string());
    }
    parts.push_back(std::move(z));
  }
  layer.z = together(parts);
}

// The keep stage, and what a layer's own window lets go.
void Attend::keep(const Run& run, int layer) {
  for (size_t m = 0; m < methods(run).size(); ++m) methods(run)[m]->keep(call(run, layer, m), *c_.cache);
  const AttentionShape shape = c_.model.site(layer);
  if (shape.window == INT_MAX) return;
  const int64_t unseen = int64_t{run.positions.back()} + 2 - shape.window - kWindowSlack;
  const int64_t end = unseen / kWindowStep * kWindowStep;
  for (int kv = 0; kv < shape.n_kv_heads() && end > 0; ++kv)
    c_.cache->drop(run.sequence, layer, kv, 0, static_cast<int32_t>(end));
}

// Whether a method has rows of this call see keys behind them.
bool Attend::looks_ahead(const Run& run, int layer) const {
  const auto looks = [&](const auto& method) {
    if (!method->chooses(layer)) return false;
    const Result<Together> rows = method->read_together(run.spans);
    return rows && !rows->empty() && rows->begin <= run.positions.back() && run.positions.front() < rows->end;
  };
  return std::any_of(methods(run).begin(), methods(run).end(), looks);
}

void Attend::make_plan(Layer& layer, size_t index, const tensor::FloatPages* pages) {
  const Run& run = memory_.runs[index];
  const AttentionShape& shape = layer.shape;
  KeyPlan& plan = memory_.plans[index];
  const KeyRule whole{0, shape.window, looks_ahead(run, layer.index) ? INT_MAX : shape.ahead()};
  plan.begin(run.positions, shape.n_kv_heads(), shape.group(), whole);
  if (pages) {
    plan.set_layout({.k_dim = pages->k_dim(), .v_dim = pages->v_dim()});
  } else {
    const CacheShape& cached = c_.cache->shape();
    const CacheShape::Layer& own = cached.layer(layer.index);
    plan.set_layout({cached.k_type, cached.v_type, own.k_dim, own.v_dim});
  }
  for (int kv = 0; kv < shape.n_kv_heads(); ++kv)
    plan.set_pages(kv, pages ? pages->of(kv) : c_.cache->blocks(run.sequence, layer.index, kv));
  for (const auto& method : methods(run)) {
    for (int head = 0; head < shape.n_heads; ++head) {
      KeyRule rule = method->rule(layer.index, head);
      rule.ahead = whole.ahead;  // what a row may see of what comes is not a method's to say
      plan.narrow(head / shape.group(), head % shape.group(), rule);
    }
  }
  Queries queries;
  for (size_t m = 0; m < methods(run).size(); ++m) {
    if (!methods(run)[m]->chooses(layer.index)) continue;
    if (!queries.plain.defined())
      queries = {rows_of(layer.plain, run.begin, run.end), rows_of(layer.q, run.begin, run.end)};
    methods(run)[m]->choose(call(run, layer.index, m, layer.x, layer.h), queries, plan);
  }
  std::vector<Tensor>& turned = memory_.turned_q[index];
  turned.clear();
  for (const std::vector<int32_t>& positions : plan.turns()) {
    // A layer that turns no keys is not told of positions: where they seem to stand changes nothing.
    turned.push_back(shape.rope == AttentionShape::kNoRope
                         ? queries.plain
                         : tensor::rope(queries.plain, angles_at(positions, shape.rope)));
  }
  plan.drop_idle_masks();
  count_keys(run, plan, shape.causal);
}

void Attend::count_keys(const Run& run, const KeyPlan& plan, bool causal) {
  const auto group = static_cast<size_t>(plan.group());
  const int64_t n_keys = int64_t{run.positions.back()} + 1;
  for (int kv = 0; kv < plan.n_kv_heads(); ++kv) {
    for (const int32_t p : run.positions)
      keys_.dense += static_cast<uint64_t>(causal ? int64_t{p} + 1 : n_keys) * group;
    if (!plan.touched(kv)) {
      for (const KeyRule& rule : plan.rules(kv)) {
        for (const int32_t p : run.positions) keys_.seen += visible(rule, p, n_keys);
      }
      continue;
    }
    for (int t = 0; t < plan.n_tiles(); ++t) {
      const KeyPlan::Tile& tile = plan.tile(kv, t);
      const auto tile_first = static_cast<size_t>(tile.first);
      for (const KeyPlan::Part& part : tile.parts) {
        for (const KeyPlan::Page& page : part.pages) {
          const KeyBlock& keys = plan.page(kv, page.index);
          uint64_t seen = 0;
          for (size_t g = 0; g < group; ++g) {
            if (part.head != KeyPlan::kAllHeads && part.head != static_cast<int>(g)) continue;
            const uint32_t* bits = page.bits ? page.bits + static_cast<int64_t>(g) * tile.n : nullptr;
            const bool as_before = seen > 0 && !bits && part.rules[g] == part.rules[g - 1];
            if (!as_before) seen = kernels::count_seen(part.rules[g], keys, &run.positions[tile_first], bits, tile.n);
            keys_.seen += seen;
          }
        }
      }
    }
  }
}

bool Attend::edits_rows(const Run& run, const Layer& layer, int head) const {
  const auto edits = [&](const auto& method) { return method->edits_rows(layer.index, head, run.decoding()); };
  return layer.by_distance.defined() || std::any_of(methods(run).begin(), methods(run).end(), edits);
}

bool Attend::observes(const Run& run, int layer, int head) const {
  const auto wants = [&](const RowObserver* observer) { return observer->wants(layer, head, run.decoding()); };
  return std::any_of(c_.observers.begin(), c_.observers.end(), wants) ||
         std::any_of(run.observers.begin(), run.observers.end(), wants);
}

}  // namespace fovea::attention
