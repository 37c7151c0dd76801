#include "fovea/attention/attend.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <utility>

#include "fovea/base/check.h"
#include "fovea/base/threads.h"
#include "fovea/kernels/vector.h"
#include "fovea/tensor/exec.h"
#include "fovea/tensor/ops/sdpa.h"
#include "fovea/tensor/scratch.h"

namespace fovea::attention {
namespace {

using kernels::AttentionArgs;
using kernels::KeyBlock;
using kernels::kPageKeys;
using tensor::Tensor;

constexpr int64_t kTileQueries = 64;  // of one KV head: its group shares every converted page
// Keys are cut into segments of the page list whose partial results are joined in order: decode can
// then use more threads than there are KV heads. Prefill makes the same cut, for the same bits.
constexpr int64_t kSegmentPages = 32;

int64_t segments_of(int64_t n_blocks) { return std::max<int64_t>(1, (n_blocks + kSegmentPages - 1) / kSegmentPages); }

size_t aligned(size_t bytes) { return (bytes + 63) / 64 * 64; }

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
    : c_(context), scale_(1.0f / std::sqrt(static_cast<float>(context.model.head_dim))) {
  const Batch& batch = c_.batch;
  for (int64_t begin = 0; begin < batch.size();) {
    const auto at = static_cast<size_t>(begin);
    int64_t end = begin + 1;
    while (end < batch.size() && batch.sequences[static_cast<size_t>(end)] == batch.sequences[at]) ++end;
    runs_.push_back({batch.sequences[at], begin, end,
                     std::span(batch.positions).subspan(at, static_cast<size_t>(end - begin)), batch.decoding[at]});
    if (c_.cache) c_.cache->create(batch.sequences[at]);
    begin = end;
  }
  angles_ = tensor::make_rope_angles(batch.positions, c_.rope);
}

Tensor Attend::on_tape(const Tensor& q, const Tensor& k, const Tensor& v) const {
  FOVEA_CHECK(n_methods() == 0, "attend: methods have no gradients yet; use the dense pipeline on the tape");
  return tensor::sdpa(q, k, v, c_.batch.positions, c_.batch.sequences, scale_);
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
  for (const Run& run : runs_) {
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

  const auto methods = [&]() -> const auto& { return c_.pipeline->methods(); };
  tensor::RopeAngles moved;
  const tensor::RopeAngles* angles = &angles_;
  if (edit_inputs(layer, q, k, v, moved)) angles = &moved;
  q = hook(Site::kRotQ, layer, tensor::rope(q, *angles));
  k = hook(Site::kRotK, layer, tensor::rope(k, *angles));

  const int n_kv_heads = c_.model.n_kv_heads, head_dim = c_.model.head_dim;
  const int64_t ld_kv = static_cast<int64_t>(n_kv_heads) * head_dim;
  const auto store = [&](int64_t head, int) {
    for (const Run& run : runs_) {
      for (int64_t i = run.begin; i < run.end; ++i) {
        const int64_t at = i * ld_kv + head * head_dim;
        c_.cache->append(run.sequence, layer, static_cast<int>(head), run.positions[static_cast<size_t>(i - run.begin)],
                         k.data() + at, v.data() + at);
      }
    }
  };
  if (c_.batch.size() >= 16) {
    pool().for_each(n_kv_heads, store);
  } else {
    for (int head = 0; head < n_kv_heads; ++head) store(head, 0);
  }

  Tensor z = Tensor::empty(q.shape());
  for (const Run& run : runs_) {
    plan(run, layer);
    fused(run, layer, q, z);
    if (c_.hooks && (c_.hooks->wants(Site::kScores, layer) || c_.hooks->wants(Site::kPattern, layer))) {
      hooked_rows(run, layer, q, z);
    } else {
      materialised(run, layer, q, z);
    }
    for (size_t m = 0; m < n_methods(); ++m) {
      for (int head = 0; head < c_.model.n_heads; ++head) {
        if (!methods()[m]->edits_output(layer, head, run.decoding)) continue;
        const int64_t ld = static_cast<int64_t>(c_.model.n_heads) * head_dim;
        methods()[m]->edit_output(view(run, layer, m), head, z.data() + run.begin * ld + head * head_dim, ld);
      }
      methods()[m]->keep(view(run, layer, m), *c_.cache);
    }
  }
  return hook(Site::kZ, layer, std::move(z));
}

void Attend::plan(const Run& run, int layer) {
  const int group = c_.model.group(), n_kv_heads = c_.model.n_kv_heads;
  plans_.resize(static_cast<size_t>(n_kv_heads));
  for (int kv = 0; kv < n_kv_heads; ++kv) {
    HeadPlan& plan = plans_[static_cast<size_t>(kv)];
    plan.rules.assign(static_cast<size_t>(group), KeyRule());
    plan.mask.clear();
    const std::span<const KeyBlock> blocks = c_.cache->blocks(run.sequence, layer, kv);
    const auto mask = [&]() -> KeyMask {
      if (plan.mask.empty()) plan.mask.assign(static_cast<size_t>(run.n() * group) * blocks.size(), ~uint32_t{0});
      return {blocks, run.n(), group, plan.mask};
    };
    for (size_t m = 0; m < n_methods(); ++m) {
      const Method& method = *c_.pipeline->methods()[m];
      for (int g = 0; g < group; ++g) {
        const KeyRule rule = method.rule(layer, kv * group + g);
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
      if (method.chooses_keys(layer, kv)) {
        KeyMask keys = mask();
        method.choose_keys(view(run, layer, m), kv, keys);
      }
    }
    for (int64_t i = 0; i < run.n(); ++i) {
      const int32_t p = run.positions[static_cast<size_t>(i)];
      keys_.dense += static_cast<uint64_t>(p + 1) * static_cast<uint64_t>(group);
      for (int g = 0; g < group; ++g) {
        const KeyRule& rule = plan.rules[static_cast<size_t>(g)];
        if (plan.mask.empty()) {
          keys_.seen += visible(rule, p);
          continue;
        }
        const uint32_t* bits = plan.mask.data() + static_cast<size_t>(i * group + g) * blocks.size();
        for (size_t b = 0; b < blocks.size(); ++b) {
          if (bits[b] != 0)
            keys_.seen += static_cast<uint64_t>(std::popcount(bits[b] & seen_slots(rule, p, blocks[b])));
        }
      }
    }
  }
}

void Attend::fused(const Run& run, int layer, const Tensor& q, Tensor& z) {
  const int group = c_.model.group(), head_dim = c_.model.head_dim, n_kv_heads = c_.model.n_kv_heads;
  const int64_t ld = static_cast<int64_t>(c_.model.n_heads) * head_dim;

  int64_t most_segments = 1;
  for (int kv = 0; kv < n_kv_heads; ++kv) {
    most_segments =
        std::max(most_segments, segments_of(static_cast<int64_t>(c_.cache->blocks(run.sequence, layer, kv).size())));
  }
  const int64_t n_tiles = (run.n() + kTileQueries - 1) / kTileQueries;
  const int64_t tile_rows = std::min(run.n(), kTileQueries);

  AttentionArgs base;
  base.type = c_.cache->shape().type;
  base.head_dim = head_dim;
  base.group = group;
  base.scale = scale_;
  base.n_queries = tile_rows;
  base.n_blocks = kSegmentPages;
  base.ld_q = ld;
  const size_t kernel_bytes = aligned(kernels::attention_scratch_bytes(base));
  const size_t part_rows = static_cast<size_t>(tile_rows * group);
  const size_t part_bytes = aligned(part_rows * static_cast<size_t>(head_dim) * sizeof(float));
  const size_t lse_bytes = aligned(part_rows * sizeof(float));
  const size_t mask_bytes = aligned(part_rows * kSegmentPages * sizeof(uint32_t));
  const size_t merge_bytes =
      aligned(static_cast<size_t>(most_segments) * static_cast<size_t>(head_dim + 1) * sizeof(float));

  // One segment of one tile into part_z [rows, head_dim] and part_lse [rows].
  const auto segment = [&](int kv, int64_t tile, int64_t s, std::byte* scratch, float* part_z, int64_t ld_z,
                           float* part_lse) {
    const HeadPlan& plan = plans_[static_cast<size_t>(kv)];
    const std::span<const KeyBlock> blocks = c_.cache->blocks(run.sequence, layer, kv);
    AttentionArgs args = base;
    const int64_t first = tile * kTileQueries;
    args.n_queries = std::min(kTileQueries, run.n() - first);
    args.q = q.data() + (run.begin + first) * ld + static_cast<int64_t>(kv) * group * head_dim;
    args.q_pos = run.positions.data() + first;
    const int64_t begin = s * kSegmentPages;
    args.blocks = blocks.data() + begin;
    args.n_blocks = std::min<int64_t>(kSegmentPages, static_cast<int64_t>(blocks.size()) - begin);
    args.head_rules = plan.rules.data();
    if (!plan.mask.empty()) {
      auto* bits = reinterpret_cast<uint32_t*>(scratch + kernel_bytes);
      for (int64_t row = 0; row < args.n_queries * group; ++row) {
        std::memcpy(bits + row * args.n_blocks,
                    plan.mask.data() + (first * group + row) * static_cast<int64_t>(blocks.size()) + begin,
                    static_cast<size_t>(args.n_blocks) * sizeof(uint32_t));
      }
      args.mask = bits;
    }
    args.z = part_z;
    args.ld_z = ld_z;
    args.lse = part_lse;
    args.scratch = scratch;
    kernels::attention(args);
  };
  // Joins `n_parts` partial results of a tile, part s of row r at z + (s * rows + r) * head_dim.
  const auto merge = [&](int kv, int64_t tile, int64_t n_parts, const float* part_z, size_t z_stride,
                         const float* part_lse, size_t lse_stride, float* joined) {
    const int64_t first = tile * kTileQueries, n = std::min(kTileQueries, run.n() - first);
    float* lse = joined + n_parts * head_dim;
    for (int64_t row = 0; row < n * group; ++row) {
      for (int64_t s = 0; s < n_parts; ++s) {
        std::memcpy(joined + s * head_dim,
                    part_z + static_cast<size_t>(s) * z_stride + static_cast<size_t>(row * head_dim),
                    static_cast<size_t>(head_dim) * sizeof(float));
        lse[s] = part_lse[static_cast<size_t>(s) * lse_stride + static_cast<size_t>(row)];
      }
      float* out = z.data() + (run.begin + first + row / group) * ld +
                   (static_cast<int64_t>(kv) * group + row % group) * head_dim;
      kernels::attention_merge(joined, lse, static_cast<int>(n_parts), head_dim, out);
    }
  };
  const auto n_segments = [&](int kv) {
    return segments_of(static_cast<int64_t>(c_.cache->blocks(run.sequence, layer, kv).size()));
  };
  // A tile sees nothing past its last row: those segments need no work.
  const auto useful_segments = [&](int kv, int64_t tile) {
    const std::span<const KeyBlock> blocks = c_.cache->blocks(run.sequence, layer, kv);
    const int32_t last = run.positions[static_cast<size_t>(std::min(run.n(), (tile + 1) * kTileQueries) - 1)];
    int64_t n = n_segments(kv);
    while (n > 1) {
      const int32_t* positions = blocks[static_cast<size_t>((n - 1) * kSegmentPages)].positions;
      if (*std::min_element(positions, positions + kPageKeys) <= last) break;
      --n;
    }
    return n;
  };
  thread_local tensor::Scratch scratch_bytes;
  const int64_t n_tasks = n_tiles * n_kv_heads;
  if (n_tasks >= 2 * pool().size() || most_segments == 1) {
    const size_t parts_bytes = static_cast<size_t>(most_segments) * (part_bytes + lse_bytes);
    const size_t slice = kernel_bytes + mask_bytes + parts_bytes + merge_bytes;
    std::byte* all = scratch_bytes.at_least(slice * static_cast<size_t>(pool().size()));
    pool().for_each(n_tasks, [&](int64_t task, int thread) {
      std::byte* mine = all + slice * static_cast<size_t>(thread);
      const int64_t tile = n_tiles - 1 - task / n_kv_heads;  // the longest first
      const int kv = static_cast<int>(task % n_kv_heads);
      auto* part_z = reinterpret_cast<float*>(mine + kernel_bytes + mask_bytes);
      auto* part_lse =
          reinterpret_cast<float*>(mine + kernel_bytes + mask_bytes + static_cast<size_t>(most_segments) * part_bytes);
      const int64_t parts = useful_segments(kv, tile);
      if (parts == 1) {
        float* out = z.data() + (run.begin + tile * kTileQueries) * ld + static_cast<int64_t>(kv) * group * head_dim;
        segment(kv, tile, 0, mine, out, ld, nullptr);
        return;
      }
      for (int64_t s = 0; s < parts; ++s) {
        segment(kv, tile, s, mine, part_z + static_cast<size_t>(s) * (part_bytes / sizeof(float)),
                static_cast<int64_t>(group) * head_dim,
                part_lse + static_cast<size_t>(s) * (lse_bytes / sizeof(float)));
      }
      merge(kv, tile, parts, part_z, part_bytes / sizeof(float), part_lse, lse_bytes / sizeof(float),
            reinterpret_cast<float*>(mine + kernel_bytes + mask_bytes + parts_bytes));
    });
    return;
  }
  // Few rows, many keys: a task is a segment, and a second pass joins them.
  const size_t per_task = part_bytes + lse_bytes;
  const size_t slice = kernel_bytes + mask_bytes;
  const size_t parts_at = slice * static_cast<size_t>(pool().size());
  const size_t parts_bytes = per_task * static_cast<size_t>(n_tasks * most_segments);
  std::byte* all = scratch_bytes.at_least(parts_at + parts_bytes + merge_bytes);
  const auto part = [&](int64_t task, int64_t s) {
    return all + parts_at + per_task * static_cast<size_t>(task * most_segments + s);
  };
  pool().for_each(n_tasks * most_segments, [&](int64_t index, int thread) {
    const int64_t task = index / most_segments, s = index % most_segments;
    const int kv = static_cast<int>(task % n_kv_heads);
    if (s >= n_segments(kv)) return;
    std::byte* to = part(task, s);
    segment(kv, task / n_kv_heads, s, all + slice * static_cast<size_t>(thread), reinterpret_cast<float*>(to),
            static_cast<int64_t>(group) * head_dim, reinterpret_cast<float*>(to + part_bytes));
  });
  for (int64_t task = 0; task < n_tasks; ++task) {
    const int kv = static_cast<int>(task % n_kv_heads);
    const size_t stride = per_task / sizeof(float);
    merge(kv, task / n_kv_heads, n_segments(kv), reinterpret_cast<float*>(part(task, 0)), stride,
          reinterpret_cast<float*>(part(task, 0) + part_bytes), stride,
          reinterpret_cast<float*>(all + parts_at + parts_bytes));
  }
}

}  // namespace fovea::attention
