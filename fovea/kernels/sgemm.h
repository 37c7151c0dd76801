// Products of float32 matrices, for training and wherever both sides are float32.
//
// One canonical order of float additions per element of C: c = fma(a[p], b[p], c) for p rising, from zero or, where C
// is added to, from what it holds; bias last. Blocks, threads and the split of rows do not show in a bit.
#pragma once

#include <cstdint>

#include "fovea/kernels/isa.h"

namespace fovea::kernels {

// C [m, n] = A [m, k] B [k, n]; rows of a matrix as stored are ld floats apart.
struct SgemmArgs {
  int64_t m = 0, n = 0, k = 0;
  const float* a = nullptr;  // [m, k], or [k, m] if a_transposed
  int64_t ld_a = 0;
  bool a_transposed = false;
  const float* b = nullptr;  // [k, n], or [n, k] if b_transposed: a weight as it lies in the file
  int64_t ld_b = 0;
  bool b_transposed = false;
  float* c = nullptr;  // neither in A nor in B
  int64_t ld_c = 0;
  bool accumulate = false;      // C += A B
  const float* bias = nullptr;  // [n] or null, added to every row
};
// Shares the work out over the thread pool.
void sgemm(const SgemmArgs& args);

// What a register tile of C holds.
struct SgemmTile {
  int rows, cols;
};
extern Dispatched<SgemmTile()> sgemm_tile;

// Rows of A (`is_a`) or columns of B as panels of tile.rows or tile.cols of them, zeros past `count`: blocks of steps,
// each [panel][step][width], so that what is read together lies together. Element (i, p) is at x[i * step + p * ld]
// where one of the two is 1.
struct SgemmPanels {
  const float* x;
  int64_t step, ld;
  int64_t count, k;
  bool is_a;
};
extern Dispatched<void(const SgemmPanels& panels, int64_t panel_begin, int64_t panel_end, float* out)> sgemm_pack;

// Some of C's tiles from packed panels.
struct SgemmBlock {
  const float *a, *b;  // packed, panel 0
  int64_t k, m, n;     // of the packed part
  float* c;            // its first element
  int64_t ld_c;
  bool accumulate;
  const float* bias;                               // of its first column, or null
  int64_t row_begin, row_end, col_begin, col_end;  // panels
};
extern Dispatched<void(const SgemmBlock& block)> sgemm_block;

}  // namespace fovea::kernels
