// Where the sums of a tile go, and what becomes of them on the way; private to the products.
//   y = residual + factor * (sum + bias)
// Of two panels beside each other, where they gate: y = silu(first + bias) * (second + second_bias).
#pragma once

#include <cmath>
#include <cstdint>

#include "fovea/kernels/matmul.h"
#if FOVEA_ISA_LEVEL > 0
#include "fovea/kernels/silu.h"
#endif

namespace fovea::kernels::FOVEA_ISA_NS {
namespace {

struct Out {
  float* y;  // of the first row and token
  int64_t ld;
  const float* bias = nullptr;      // of the first row
  const float* residual = nullptr;  // where y is, likewise
  float factor = 1;
  int n_rows;
  bool gates = false;
  const float* second_bias = nullptr;

  Out next_panel() const {
    Out next = *this;
    next.y += 16, next.n_rows -= 16;
    if (bias) next.bias += 16;
    if (residual) next.residual += 16;
    return next;
  }
};

// At most `most` rows from `row` on of a call, tokens from t on.
inline Out out_of(const MatmulArgs& args, int64_t row, int64_t t, int64_t most = kPanelRows) {
  const int64_t at = t * args.ld_y + row, left = args.row_end - row;
  return {.y = args.y + at,
          .ld = args.ld_y,
          .bias = args.bias ? args.bias + row : nullptr,
          .residual = args.residual ? args.residual + at : nullptr,
          .factor = args.factor,
          .n_rows = static_cast<int>(left < most ? left : most)};
}

#if FOVEA_ISA_LEVEL > 0

// As many of a panel's rows as a register holds, from row `at` on; those past the last are left alone.
class OutRows {
 public:
  OutRows(const Out& out, int at) : at_(at), n_(out.n_rows - at < F32::kLanes ? out.n_rows - at : F32::kLanes) {}
  FOVEA_INLINE bool any() const { return n_ > 0; }
  FOVEA_INLINE F32 load(const float* p) const {
    return FOVEA_ISA_LEVEL == 1 && n_ == F32::kLanes ? F32::load(p + at_) : F32::load_first(p + at_, n_);
  }
  FOVEA_INLINE void store(F32 v, float* p) const {
    if (FOVEA_ISA_LEVEL == 1 && n_ == F32::kLanes) return v.store(p + at_);
    v.store_first(p + at_, n_);
  }

 private:
  int at_, n_;
};

// The sums of token t.
FOVEA_INLINE void put(F32 sum, const Out& out, int t, int at = 0) {
  const OutRows rows(out, at);
  if (!rows.any()) return;
  if (out.bias) sum = sum + rows.load(out.bias);
  if (out.factor != 1) sum = F32::all(out.factor) * sum;
  if (out.residual) sum = rows.load(out.residual + t * out.ld) + sum;
  rows.store(sum, out.y + t * out.ld);
}

FOVEA_INLINE void put_gated(F32 gate, F32 up, const Out& out, int t) {
  const OutRows rows(out, 0);
  if (out.bias) gate = gate + rows.load(out.bias);
  if (out.second_bias) up = up + rows.load(out.second_bias);
  rows.store(silu(gate) * up, out.y + t * out.ld);
}

#else

inline void put(float sum, const Out& out, int t, int row) {
  if (out.bias) sum += out.bias[row];
  if (out.factor != 1) sum *= out.factor;
  out.y[t * out.ld + row] = out.residual ? out.residual[t * out.ld + row] + sum : sum;
}

#endif

}  // namespace
}  // namespace fovea::kernels::FOVEA_ISA_NS
