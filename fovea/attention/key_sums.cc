#include "fovea/attention/key_sums.h"

#include <algorithm>
#include <numeric>

#include "fovea/kernels/attention.h"
#include "fovea/tensor/scratch.h"

namespace fovea::attention {

using kernels::KeyBlock;
using kernels::kPageKeys;

KeySums key_sums(const KvCache& cache, SequenceId sequence, const AttentionShape& shape, int layer, int kv_head,
                 const float* q, std::span<const int32_t> q_pos) {
  const std::span<const KeyBlock> blocks = cache.blocks(sequence, layer, kv_head);
  const int group = shape.group();
  const auto n = static_cast<int64_t>(q_pos.size());
  std::vector<float> z(static_cast<size_t>(n * group * shape.v_dim)), lse(static_cast<size_t>(n * group)),
      slots(blocks.size() * kPageKeys);
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
  for (int head = 0; head < group; ++head) kernels::attention_columns(args, head, lse.data(), slots.data());

  KeySums out;
  for (size_t i = 0; i < slots.size(); ++i) {
    const int32_t position = blocks[i / kPageKeys].positions[i % kPageKeys];
    if (position == kernels::kNoPosition) continue;
    out.positions.push_back(position);
    out.sums.push_back(slots[i]);
  }
  return out;
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
