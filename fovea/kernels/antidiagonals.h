// Sums of scores along antidiagonals, which find the blocks of keys that matter at 1 / stride of the dot products.
// Xu et al., arXiv:2503.16428, sec. 2.1.
#pragma once

#include <cstddef>
#include <cstdint>

#include "fovea/kernels/attention.h"

namespace fovea::kernels {

// sums[r, c] = scale sum_i q[r S + S - 1 - i] . k[c S + i],  i = 0..S-1: one for each cell of S rows and S slots. Rows
// past the last and slots without a key add nothing.
struct AntidiagonalArgs {
  KvType k_type = KvType::kI16;
  int k_dim = 64;   // 8..256, a multiple of 8
  int stride = 16;  // S: 1, 2, 4 ... kPageKeys
  float scale = 1;
  int64_t n_queries = 0;
  const float* q = nullptr;  // row i: q + i * ld_q
  int64_t ld_q = 0;
  const KeyBlock* blocks = nullptr;
  int64_t n_blocks = 0;
  float* sums = nullptr;    // [ceil(n_queries / S), n_blocks * kPageKeys / S]
  void* scratch = nullptr;  // antidiagonal_scratch_bytes, 64-byte aligned, one per thread
};
size_t antidiagonal_scratch_bytes(const AntidiagonalArgs& args);
extern Dispatched<void(const AntidiagonalArgs& args)> antidiagonal_sums;

}  // namespace fovea::kernels
