// The rows of the pattern, made only for the heads that a method edits, an observer reduces or a
// hook reads; everything else stays fused.
#include <algorithm>
#include <bit>
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

kernels::AttentionArgs Attend::rows_of(const Run& run, int kv_head, const Tensor& q, int64_t first, int64_t n) const {
  const int group = c_.model.group(), head_dim = c_.model.head_dim;
  const HeadPlan& plan = this->plan(run, kv_head);
  kernels::AttentionArgs args;
  args.type = c_.cache->shape().type;
  args.head_dim = head_dim;
  args.group = group;
  args.scale = scale_;
  args.n_queries = n;
  args.ld_q = static_cast<int64_t>(c_.model.n_heads) * head_dim;
  args.q = q.data() + (run.begin + first) * args.ld_q + static_cast<int64_t>(kv_head) * group * head_dim;
  args.q_pos = run.positions.data() + first;
  args.blocks = plan.blocks.data();
  args.n_blocks = static_cast<int64_t>(plan.blocks.size());
  args.head_rules = plan.rules.data();
  if (!plan.mask.empty()) args.mask = plan.mask.data() + first * group * args.n_blocks;
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
      score_rows(rows_of(run, kv, q, first, n), head % group, rows.data(), slots);
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

// materialised() for every head, with whole matrices kept for the hooks: scores after the score stage,
// the pattern after the reweight stage, over the live keys in order of position. z is computed again
// only from a pattern that a method or a hook changed: looking never alters an answer.
void Attend::hooked_rows(const Run& run, int layer, const Tensor& q, Tensor& z) {
  const int group = c_.model.group(), head_dim = c_.model.head_dim, n_heads = c_.model.n_heads;
  const int64_t n = run.n(), ld = static_cast<int64_t>(n_heads) * head_dim;
  struct Head {
    std::vector<int32_t> positions;  // by slot of the head's pages
    std::vector<int64_t> live;       // the slots that hold a key
    std::vector<size_t> editors;
    std::vector<float> rows;  // [n, slots]: scores, then the pattern
    bool edited = false;
    int64_t slots() const { return static_cast<int64_t>(positions.size()); }
    std::span<float> row(int64_t i) { return {rows.data() + i * slots(), positions.size()}; }
  };
  std::vector<Head> heads(static_cast<size_t>(n_heads));
  size_t most = 0;
  for (int h = 0; h < n_heads; ++h) {
    Head& head = heads[static_cast<size_t>(h)];
    head.positions = slot_positions(c_.cache->blocks(run.sequence, layer, h / group));
    for (size_t j = 0; j < head.positions.size(); ++j) {
      if (head.positions[j] != kNoPosition) head.live.push_back(static_cast<int64_t>(j));
    }
    most = std::max(most, head.live.size());
    for (size_t m = 0; m < n_methods(); ++m) {
      if (c_.pipeline->methods()[m]->edits_rows(layer, h, run.decoding)) head.editors.push_back(m);
    }
  }
  if (c_.pipeline) {
    for (size_t m = 0; m < n_methods(); ++m) c_.pipeline->state(m, run.sequence);  // made here, not in a thread
  }
  const auto each_head = [&](auto work) {
    pool().for_each(n_heads, [&](int64_t h, int) { work(static_cast<int>(h), heads[static_cast<size_t>(h)]); });
  };
  each_head([&](int h, Head& head) {
    head.rows.resize(static_cast<size_t>(n * head.slots()));
    ScoreRows score_rows;
    for (int64_t first = 0; first < n; first += kRowTile) {
      score_rows(rows_of(run, h / group, q, first, std::min(kRowTile, n - first)), h % group, head.row(first).data(),
                 head.slots());
    }
    for (int64_t i = 0; i < n; ++i) {
      for (const size_t m : head.editors) {
        const LayerView layer_view = view(run, layer, m);
        c_.pipeline->methods()[m]->edit_scores({layer_view, h, run.positions[static_cast<size_t>(i)], head.positions},
                                               head.row(i));
      }
    }
  });
  // Shows the rows to the hooks of a site, and takes back what they changed.
  const auto show = [&](Site site, float padding) {
    if (!c_.hooks->wants(site, layer)) return;
    const auto n_keys = static_cast<int64_t>(most);  // heads with fewer keys are padded at the end
    Tensor matrix = Tensor::empty({n_heads, n, n_keys});
    std::fill_n(matrix.data(), matrix.elements(), padding);
    each_head([&](int h, Head& head) {
      for (int64_t i = 0; i < n; ++i) {
        float* to = matrix.data() + (h * n + i) * n_keys;
        for (const int64_t slot : head.live) *to++ = head.row(i)[static_cast<size_t>(slot)];
      }
    });
    matrix = hook(site, layer, std::move(matrix));
    each_head([&](int h, Head& head) {
      for (int64_t i = 0; i < n; ++i) {
        const float* from = matrix.data() + (h * n + i) * n_keys;
        for (const int64_t slot : head.live) {
          float& mine = head.row(i)[static_cast<size_t>(slot)];
          head.edited |= std::bit_cast<uint32_t>(mine) != std::bit_cast<uint32_t>(*from);
          mine = *from++;
        }
      }
    });
  };
  show(Site::kScores, -std::numeric_limits<float>::infinity());
  each_head([&](int h, Head& head) {
    for (int64_t i = 0; i < n; ++i) {
      kernels::softmax(head.row(i).data(), head.slots(), head.row(i).data());
      for (const size_t m : head.editors) {
        const LayerView layer_view = view(run, layer, m);
        c_.pipeline->methods()[m]->edit_pattern({layer_view, h, run.positions[static_cast<size_t>(i)], head.positions},
                                                head.row(i));
      }
    }
  });
  show(Site::kPattern, 0.0f);
  each_head([&](int h, Head& head) {
    const LayerView layer_view{c_.model, layer, run.sequence, run.positions, run.decoding, nullptr};
    for (RowObserver* observer : c_.observers) {
      if (!observer->wants(layer, h, run.decoding)) continue;
      for (int64_t i = 0; i < n; ++i) {
        observer->see({layer_view, h, run.positions[static_cast<size_t>(i)], head.positions}, head.row(i));
      }
    }
    if (head.editors.empty() && !head.edited) return;
    const std::vector<float> values = read_values(c_.cache->shape(), c_.cache->blocks(run.sequence, layer, h / group));
    for (int64_t i = 0; i < n; ++i)
      weigh(head.row(i), values, head_dim, z.data() + (run.begin + i) * ld + h * head_dim);
  });
}

}  // namespace fovea::attention
