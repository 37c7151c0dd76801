// Gradients of attention in float32, given the log-sum-exp of each row: with P = e^(scale q k - lse) where a row sees a
// key, delta = dz . z - dlse and dS = P (dz v - delta),
//   dv += P^T dz, dq += scale dS k, dk += scale dS^T q.
// With a soft cap P is that of the capped score c tanh(s / c), and dS has its slope 1 - tanh(s / c)^2 as a factor.
//
// One canonical order of sums: keys in blocks of kBlockKeys in list order, within them head by head, queries rising.
#pragma once

#include <cstddef>
#include <cstdint>

#include "fovea/kernels/attention.h"
#include "fovea/kernels/isa.h"

namespace fovea::kernels {

// One KV head and the queries of its group. Keys lie as rows; a page is kPageKeys of them.
struct AttentionBackwardArgs {
  int k_dim = 64, v_dim = 64;  // widths of q and k, and of v and z
  int group = 1;
  float scale = 0.125f;
  float softcap = 0.0f;  // > 0: a score s became softcap tanh(s / softcap)
  int64_t n_queries = 0;
  const float* q = nullptr;  // row i of head h: q + i * ld_q + h * k_dim
  int64_t ld_q = 0;
  const int32_t* q_pos = nullptr;  // [n_queries]
  int64_t n_keys = 0;
  const float *k = nullptr, *v = nullptr;
  int64_t ld_k = 0, ld_v = 0;
  const int32_t* k_pos = nullptr;  // [n_keys]
  const int32_t* pages = nullptr;  // [n_pages] that are read, rising: page p is keys from p * kPageKeys on; null: all
  int64_t n_pages = 0;             // where pages is given
  KeyRule rule = {};
  const KeyRule* head_rules = nullptr;      // [group], overrides `rule` where given
  const uint32_t* mask = nullptr;           // [n_queries, group, n_pages] key bits, or null: all visible
  const float *z = nullptr, *dz = nullptr;  // row i of head h: + i * ld_z + h * v_dim, likewise dz
  int64_t ld_z = 0, ld_dz = 0;
  const float* lse = nullptr;                         // [n_queries, group], -inf where a row sees nothing
  const float* dlse = nullptr;                        // likewise, or null
  float *dq = nullptr, *dk = nullptr, *dv = nullptr;  // rows as q, k and v; added to; null: not wanted
  void* scratch = nullptr;  // attention_backward_scratch_bytes, 64-byte aligned, one per thread
};
size_t attention_backward_scratch_bytes(int k_dim, int v_dim);
extern Dispatched<void(const AttentionBackwardArgs& args)> attention_backward;

}  // namespace fovea::kernels
