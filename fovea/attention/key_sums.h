// How much the last rows of a text look at each cached key of a KV head, for methods that keep what is looked at most.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "fovea/attention/kv_cache.h"
#include "fovea/attention/shape.h"
#include "fovea/tensor/tensor.h"

namespace fovea::attention {

struct KeySums {
  std::vector<int32_t> positions;  // of the live keys, rising
  std::vector<float> sums;         // of each: the weights after softmax, over the rows and the group's query heads
};

// q [n, n_heads, k_dim], turned, of the rows at `q_pos`, rising; the layer's window holds, what sinks a head has learnt
// does not. Scratch memory is the caller's thread's: KV heads may go in parallel.
KeySums key_sums(const KvCache& cache, SequenceId sequence, const AttentionShape& shape, int layer, int kv_head,
                 const float* q, std::span<const int32_t> q_pos);

// Over all rows so far, of each query head of the group.
struct AllSums {
  std::vector<int32_t> positions;  // rising
  std::vector<float> sums;         // [group, positions]
};
// Adds what the rows at `q_pos` give to those of the rows before them: of the keys that are live now. Row by row, so
// that how the rows are fed changes no bit. q as above.
void add_key_sums(const KvCache& cache, SequenceId sequence, const AttentionShape& shape, int layer, int kv_head,
                  const float* q, std::span<const int32_t> q_pos, AllSums& all);

// How many keys of a text stay: `budget`, or if that is 0 the share `keep` of them, rounded up.
size_t n_kept(double keep, int budget, int64_t n_text);
// The positions of the n highest scores, rising; of equal ones the earlier.
std::vector<int32_t> highest(std::span<const int32_t> positions, std::span<const float> scores, size_t n);
// Keeps these keys of a KV head and drops the rest. `positions` rises.
void retain_only(KvCache& cache, SequenceId sequence, int layer, int kv_head, std::span<const int32_t> positions);

}  // namespace fovea::attention
