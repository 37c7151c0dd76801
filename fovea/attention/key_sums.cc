#include "fovea/attention/key_sums.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "fovea/kernels/attention.h"
#include "fovea/tensor/scratch.h"

namespace fovea::attention {

using kernels::KeyBlock;
using kernels::kPageKeys;

namespace {

// fn(args, lse) once the rows' log-sum-exps are known.
template <typename F>
void with_rows(const KvCache& cache, SequenceId sequence, const AttentionShape& shape, int layer, int kv_head,
               const float* q, std::span<const int32_t> q_pos, const F& fn) {
  const std::span<const KeyBlock> blocks = cache.blocks(sequence, layer, kv_head);
  const int group = shape.group();
  const auto n = static_cast<int64_t>(q_pos.size());
  std::vector<float> z(static_cast<size_t>(n * group * shape.v_dim)), lse(static_cast<size_t>(n * group));
  kernels::AttentionArgs args{.k_type = cache.shape().k_type,
                              .v_type = cache.shape().v_type,
                              .k_dim = shape.k_dim,
                              .v_dim = shape.v_dim,
                              .group = group,
                              .scale = shape.scale,
                              .softcap = shape.softcap,
                              .n_queries = n,
                              .q = q + int64_t{kv_head} * group * shape.k_dim,
                              .ld_q = int64_t{shape.n_heads} * shape.k_dim,
                              .q_pos = q_pos.data(),
                              .blocks = blocks.data(),
                              .n_blocks = static_cast<int64_t>(blocks.size()),
                              .rule = {0, shape.window, shape.ahead()},
                              .z = z.data(),
                              .ld_z = int64_t{group} * shape.v_dim,
                              .lse = lse.data()};
  thread_local tensor::Scratch scratch;
  args.scratch = scratch.at_least(kernels::attention_scratch_bytes(args));
  kernels::attention(args);
  fn(args, lse.data());
}

std::vector<size_t> live_slots(std::span<const KeyBlock> blocks) {
  std::vector<size_t> out;
  for (size_t i = 0; i < blocks.size() * kPageKeys; ++i) {
    if (blocks[i / kPageKeys].positions[i % kPageKeys] != kernels::kNoPosition) out.push_back(i);
  }
  return out;
}

}  // namespace

KeySums key_sums(const KvCache& cache, SequenceId sequence, const AttentionShape& shape, int layer, int kv_head,
                 const float* q, std::span<const int32_t> q_pos) {
  const std::span<const KeyBlock> blocks = cache.blocks(sequence, layer, kv_head);
  std::vector<float> slots(blocks.size() * kPageKeys);
  with_rows(cache, sequence, shape, layer, kv_head, q, q_pos,
            [&](const kernels::AttentionArgs& args, const float* lse) {
              for (int head = 0; head < args.group; ++head) kernels::attention_columns(args, head, lse, slots.data());
            });
  KeySums out;
  for (const size_t i : live_slots(blocks)) {
    out.positions.push_back(blocks[i / kPageKeys].positions[i % kPageKeys]);
    out.sums.push_back(slots[i]);
  }
  return out;
}

void add_key_sums(const KvCache& cache, SequenceId sequence, const AttentionShape& shape, int layer, int kv_head,
                  const float* q, std::span<const int32_t> q_pos, AllSums& all) {
  constexpr size_t kRows = 512;  // at once
  const std::span<const KeyBlock> blocks = cache.blocks(sequence, layer, kv_head);
  const std::vector<size_t> live = live_slots(blocks);
  const auto group = static_cast<size_t>(shape.group());
  const size_t n_slots = blocks.size() * kPageKeys, n_before = all.positions.size();
  std::vector<float> slots(group * n_slots);
  size_t before = 0;
  for (const size_t i : live) {
    const int32_t position = blocks[i / kPageKeys].positions[i % kPageKeys];
    while (before < n_before && all.positions[before] < position) ++before;
    if (before == n_before || all.positions[before] != position) continue;
    for (size_t g = 0; g < group; ++g) slots[g * n_slots + i] = all.sums[g * n_before + before];
  }
  for (size_t row = 0; row < q_pos.size(); row += kRows) {
    with_rows(cache, sequence, shape, layer, kv_head, q + row * static_cast<size_t>(shape.n_heads * shape.k_dim),
              q_pos.subspan(row, std::min(kRows, q_pos.size() - row)),
              [&](const kernels::AttentionArgs& args, const float* lse) {
                for (size_t g = 0; g < group; ++g)
                  kernels::attention_columns(args, static_cast<int>(g), lse, slots.data() + g * n_slots);
              });
  }
  all.positions.clear(), all.sums.clear();
  for (const size_t i : live) all.positions.push_back(blocks[i / kPageKeys].positions[i % kPageKeys]);
  for (size_t g = 0; g < group; ++g) {
    for (const size_t i : live) all.sums.push_back(slots[g * n_slots + i]);
  }
}

size_t n_kept(double keep, int budget, int64_t n_text) {
  return static_cast<size_t>(budget > 0 ? budget : std::llround(std::ceil(keep * static_cast<double>(n_text))));
}

std::vector<int32_t> highest(std::span<const int32_t> positions, std::span<const float> scores, size_t n) {
  std::vector<size_t> order(positions.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return scores[a] > scores[b]; });
  order.resize(std::min(n, order.size()));
  std::vector<int32_t> out;
  for (const size_t i : order) out.push_back(positions[i]);
  std::sort(out.begin(), out.end());
  return out;
}

void retain_only(KvCache& cache, SequenceId sequence, int layer, int kv_head, std::span<const int32_t> positions) {
  cache.retain(sequence, layer, kv_head,
               [&](int32_t position) { return std::binary_search(positions.begin(), positions.end(), position); });
}

}  // namespace fovea::attention
