// The rows of the pattern, made only for the heads that a method edits, an observer reduces or a
// hook reads; everything else stays fused.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>
#include <vector>

#include "fovea/attention/attend.h"
#include "fovea/base/check.h"
#include "fovea/base/threads.h"
#include "fovea/kernels/vector.h"
#include "fovea/tensor/scratch.h"

namespace fovea::attention {
namespace {

using kernels::KeyBlock;
using kernels::kNoPosition;
using kernels::kPageKeys;
using tensor::Tensor;

constexpr int64_t kRowTile = 16;

std::vector<int32_t> slot_positions(std::span<const KeyBlock> blocks) {
  std::vector<int32_t> positions;
  positions.reserve(blocks.size() * kPageKeys);
  for (const KeyBlock& block : blocks) positions.insert(positions.end(), block.positions, block.positions + kPageKeys);
  return positions;
}

// The values of a head's pages, [slots, head_dim].
std::vector<float> read_values(const CacheShape& shape, std::span<const KeyBlock> blocks) {
  const auto dim = static_cast<size_t>(shape.head_dim);
  std::vector<float> values(blocks.size() * kPageKeys * dim), k(dim);
  for (size_t b = 0; b < blocks.size(); ++b) {
    for (int slot = 0; slot < kPageKeys; ++slot) {
      kernels::page_read(blocks[b].page, shape.type, shape.head_dim, slot, k.data(),
                         values.data() + (b * kPageKeys + static_cast<size_t>(slot)) * dim);
    }
  }
  return values;
}

// Scores of rows of one head, with the kernel's scratch.
class ScoreRows {
 public:
  void operator()(kernels::AttentionArgs args, int head, float* scores, int64_t ld) {
    args.scratch = scratch_.at_least(kernels::attention_scratch_bytes(args));
    kernels::attention_scores(args, head, scores, ld);
  }

 private:
  tensor::Scratch scratch_;
};

// z = pattern v for one row.
void weigh(std::span<const float> pattern, const std::vector<float>& values, int head_dim, float* z) {
  std::fill_n(z, head_dim, 0.0f);
  for (size_t j = 0; j < pattern.size(); ++j) {
    if (pattern[j] != 0.0f) kernels::axpy(head_dim, pattern[j], values.data() + j * static_cast<size_t>(head_dim), z);
  }
}

}  // namespace

kernels::AttentionArgs Attend::rows_of(const Run& run, int layer, int kv_head, const Tensor& q, int64_t first,
                                       int64_t n) const {
  const int group = c_.model.group(), head_dim = c_.model.head_dim;
  const std::span<const KeyBlock> blocks = c_.cache->blocks(run.sequence, layer, kv_head);
  const HeadPlan& plan = plans_[static_cast<size_t>(kv_head)];
  kernels::AttentionArgs args;
  args.type = c_.cache->shape().type;
  args.head_dim = head_dim;
  args.group = group;
  args.scale = scale_;
  args.n_queries = n;
  args.ld_q = static_cast<int64_t>(c_.model.n_heads) * head_dim;
  args.q = q.data() + (run.begin + first) * args.ld_q + static_cast<int64_t>(kv_head) * group * head_dim;
  args.q_pos = run.positions.data() + first;
  args.blocks = blocks.data();
  args.n_blocks = static_cast<int64_t>(blocks.size());
  args.head_rules = plan.rules.data();
  if (!plan.mask.empty()) args.mask = plan.mask.data() + static_cast<size_t>(first * group) * blocks.size();
  return args;
}

void Attend::materialised(const Run& run, int layer, const Tensor& q, Tensor& z) {
  const int group = c_.model.group(), head_dim = c_.model.head_dim;
  const int64_t ld = static_cast<int64_t>(c_.model.n_heads) * head_dim;
  std::vector<int> heads;
  for (int head = 0; head < c_.model.n_heads; ++head) {
    bool wanted = false;
    for (size_t m = 0; m < n_methods(); ++m) wanted |= c_.pipeline->methods()[m]->edits_rows(layer, head, run.decoding);
    for (const RowObserver* observer : c_.observers) wanted |= observer->wants(layer, head, run.decoding);
    if (wanted) heads.push_back(head);
  }
  if (heads.empty()) return;
  if (c_.pipeline) {
    for (size_t m = 0; m < n_methods(); ++m) c_.pipeline->state(m, run.sequence);  // made here, not in a thread
  }
  pool().for_each(static_cast<int64_t>(heads.size()), [&](int64_t task, int) {
    const int head = heads[static_cast<size_t>(task)], kv = head / group;
    const std::span<const KeyBlock> blocks = c_.cache->blocks(run.sequence, layer, kv);
    const std::vector<int32_t> positions = slot_positions(blocks);
    const auto slots = static_cast<int64_t>(positions.size());
    std::vector<size_t> editors;
    for (size_t m = 0; m < n_methods(); ++m) {
      if (c_.pipeline->methods()[m]->edits_rows(layer, head, run.decoding)) editors.push_back(m);
    }
    const std::vector<float> values = editors.empty() ? std::vector<float>() : read_values(c_.cache->shape(), blocks);
    std::vector<float> rows(static_cast<size_t>(std::min(run.n(), kRowTile) * slots));
    ScoreRows score_rows;
    for (int64_t first = 0; first < run.n(); first += kRowTile) {
      const int64_t n = std::min(kRowTile, run.n() - first);
      score_rows(rows_of(run, layer, kv, q, first, n), head % group, rows.data(), slots);
      for (int64_t i = 0; i < n; ++i) {
        const std::span<float> row(rows.data() + i * slots, static_cast<size_t>(slots));
        const int32_t q_pos = run.positions[static_cast<size_t>(first + i)];
        for (const size_t m : editors) {
          const LayerView layer_view = view(run, layer, m);
          c_.pipeline->methods()[m]->edit_scores({layer_view, head, q_pos, positions}, row);
        }
        kernels::softmax(row.data(), slots, row.data());
        for (const size_t m : editors) {
          const LayerView layer_view = view(run, layer, m);
          c_.pipeline->methods()[m]->edit_pattern({layer_view, head, q_pos, positions}, row);
        }
        for (RowObserver* observer : c_.observers) {
          if (!observer->wants(layer, head, run.decoding)) continue;
          const LayerView layer_view{c_.model, layer, run.sequence, run.positions, run.decoding, nullptr};
          observer->see({layer_view, head, q_pos, positions}, row);
        }
        if (!editors.empty()) weigh(row, values, head_dim, z.data() + (run.begin + first + i) * ld + head * head_dim);
      }
    }
  });
}

// Full matrices over the live keys, in order of position. z is computed again only from a pattern
// that a hook changed: looking never alters an answer.
void Attend::fire_row_hooks(const Run& run, int layer, const Tensor& q, Tensor& z) {
  const int group = c_.model.group(), head_dim = c_.model.head_dim, n_heads = c_.model.n_heads;
  const int64_t n = run.n(), ld = static_cast<int64_t>(n_heads) * head_dim;
  std::vector<std::vector<int64_t>> live(static_cast<size_t>(c_.model.n_kv_heads));
  size_t most = 0;
  for (int kv = 0; kv < c_.model.n_kv_heads; ++kv) {
    const std::vector<int32_t> positions = slot_positions(c_.cache->blocks(run.sequence, layer, kv));
    for (size_t j = 0; j < positions.size(); ++j) {
      if (positions[j] != kNoPosition) live[static_cast<size_t>(kv)].push_back(static_cast<int64_t>(j));
    }
    most = std::max(most, live[static_cast<size_t>(kv)].size());
  }
  const auto n_keys = static_cast<int64_t>(most);  // heads with fewer keys have -inf (0) at the end
  Tensor scores = Tensor::empty({n_heads, n, n_keys});
  std::fill_n(scores.data(), scores.elements(), -std::numeric_limits<float>::infinity());
  pool().for_each(n_heads, [&](int64_t head, int) {
    const auto kv = static_cast<int>(head) / group;
    const auto slots = static_cast<int64_t>(c_.cache->blocks(run.sequence, layer, kv).size()) * kPageKeys;
    std::vector<float> rows(static_cast<size_t>(std::min(n, kRowTile) * slots));
    ScoreRows score_rows;
    for (int64_t first = 0; first < n; first += kRowTile) {
      const int64_t some = std::min(kRowTile, n - first);
      score_rows(rows_of(run, layer, kv, q, first, some), static_cast<int>(head) % group, rows.data(), slots);
      for (int64_t i = 0; i < some; ++i) {
        float* to = scores.data() + (head * n + first + i) * n_keys;
        for (const int64_t slot : live[static_cast<size_t>(kv)]) *to++ = rows[static_cast<size_t>(i * slots + slot)];
      }
    }
  });
  const auto same = [](const Tensor& a, const Tensor& b) {
    return std::memcmp(a.data(), b.data(), static_cast<size_t>(a.elements()) * sizeof(float)) == 0;
  };
  const auto copy = [](const Tensor& t) { return Tensor::from(t.shape(), t.values()); };
  const Tensor scores_before = copy(scores);
  scores = hook(Site::kScores, layer, std::move(scores));
  const bool scores_edited = !same(scores, scores_before);
  if (!scores_edited && !c_.hooks->wants(Site::kPattern, layer)) return;
  Tensor pattern = Tensor::empty(scores.shape());
  pool().for_each(n_heads * n, [&](int64_t row, int) {
    kernels::softmax(scores.data() + row * n_keys, n_keys, pattern.data() + row * n_keys);
  });
  const Tensor pattern_before = copy(pattern);
  pattern = hook(Site::kPattern, layer, std::move(pattern));
  if (!scores_edited && same(pattern, pattern_before)) return;
  pool().for_each(n_heads, [&](int64_t head, int) {
    const int kv = static_cast<int>(head) / group;
    const std::vector<int64_t>& slots = live[static_cast<size_t>(kv)];
    const std::vector<float> all = read_values(c_.cache->shape(), c_.cache->blocks(run.sequence, layer, kv));
    std::vector<float> values(slots.size() * static_cast<size_t>(head_dim));
    for (size_t j = 0; j < slots.size(); ++j) {
      std::memcpy(values.data() + j * static_cast<size_t>(head_dim), all.data() + slots[j] * head_dim,
                  static_cast<size_t>(head_dim) * sizeof(float));
    }
    for (int64_t i = 0; i < n; ++i) {
      weigh({pattern.data() + (head * n + i) * n_keys, slots.size()}, values, head_dim,
            z.data() + (run.begin + i) * ld + head * head_dim);
    }
  });
}

}  // namespace fovea::attention
