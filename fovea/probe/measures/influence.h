// How much the loss of an answer changes, to first order, where a head no longer looks at a key: the influence profile
// of MoA, arXiv:2406.14909, sec. 4.1.
//   E_ij = -A_ij / (1 - A_ij) (g_ij - sum_n A_in g_in),  g = dLoss/dA = dO V^T,  dO = dLoss/dz of the head
// is what masking A_ij does to the loss where the row is renormalised. Heads are those of dense attention; gradients
// are those of activations alone; what sinks a head has learnt does not count.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <vector>

#include "fovea/base/result.h"
#include "fovea/base/threads.h"
#include "fovea/engine/model.h"

namespace fovea::probe {

// see(layer, kv_head, row, e) for every row of every KV head, from several threads: e [group, row + 1], E of its query
// heads over the keys. -> the mean loss of the tokens from `n_prompt` on, in nats. One sequence of a decoder, read
// once with a tape: memory grows with its length and layers (SmolLM2-135M: about 2 GB at 1,024 tokens). kUsage where
// there is no token to lose on, kCancelled.
Result<double> visit_influence(const engine::Model& model, std::span<const int32_t> tokens, size_t n_prompt,
                               FunctionRef<void(int layer, int kv_head, int64_t row, std::span<const float> e)> see,
                               const std::atomic<bool>* cancel = nullptr);

// |E| of one text in blocks of `block` tokens: [n_layers * n_kv_heads][n_blocks], what lies d blocks behind the row's
// own at d, the highest of the group's query heads entry by entry; keys of the first block, which stay visible, do not
// count.
struct Influence {
  std::vector<std::vector<double>> by_distance;
  double loss = 0;
  // What leaves if rows see so many last blocks of keys, their own among them.
  double lost(size_t head, int64_t n_blocks) const;
};
Result<Influence> measure_influence(const engine::Model& model, std::span<const int32_t> tokens, size_t n_prompt,
                                    int block, const std::atomic<bool>* cancel = nullptr);

}  // namespace fovea::probe
