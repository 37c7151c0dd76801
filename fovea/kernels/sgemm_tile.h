// One register tile of a float32 product, and the panels it reads. For sgemm.cc and attention_backward.cc only.
#pragma once

#include "fovea/kernels/f32.h"

namespace fovea::kernels::FOVEA_ISA_NS {
namespace {

constexpr int kLanes = F32::kLanes;
constexpr int kNV = 2;               // vectors of a row of the tile
constexpr int kCols = kNV * kLanes;  // 32 registers hold 24 sums, two of B and one of A
#if FOVEA_ISA_LEVEL == 2
constexpr int kRows = 12;
#elif FOVEA_ISA_LEVEL == 1
constexpr int kRows = 6;
#else
constexpr int kRows = 4;
#endif
constexpr int64_t kSteps = 256;  // of a block: a panel of B stays in a first-level cache

#if FOVEA_ISA_LEVEL > 0
// out[j * ld + i] = x[i * step + j] for i < rows and j < 8, zeros for the i up to `width` <= 8.
FOVEA_INLINE void transpose8(const float* x, int64_t step, int rows, float* out, int64_t ld, int width) {
  __m256 r[8];
  FOVEA_UNROLL
  for (int i = 0; i < 8; ++i) r[i] = i < rows ? _mm256_loadu_ps(x + i * step) : _mm256_setzero_ps();
  __m256 t[8];
  FOVEA_UNROLL
  for (int i = 0; i < 8; i += 2) {
    t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
    t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
  }
  FOVEA_UNROLL
  for (int i = 0; i < 8; i += 4) {
    r[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
    r[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
    r[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
    r[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
  }
  FOVEA_UNROLL
  for (int j = 0; j < 4; ++j) {
    const __m256 low = _mm256_permute2f128_ps(r[j], r[j + 4], 0x20);
    const __m256 high = _mm256_permute2f128_ps(r[j], r[j + 4], 0x31);
    if (width == 8) {
      _mm256_storeu_ps(out + j * ld, low);
      _mm256_storeu_ps(out + (j + 4) * ld, high);
    } else {
      const __m256i some = _mm256_cmpgt_epi32(_mm256_set1_epi32(width), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
      _mm256_maskstore_ps(out + j * ld, some, low);
      _mm256_maskstore_ps(out + (j + 4) * ld, some, high);
    }
  }
}
#endif

// One panel: out [steps][kWidth] from n <= kWidth rows or columns; element (i, p) is at x[i * step + p * ld] where one
// of the two is 1.
template <int kWidth>
void pack_panel(const float* x, int64_t step, int64_t ld, int n, int64_t steps, float* out) {
  int64_t p = 0;
  if (step == 1) {
    if (n == kWidth) {
      for (; p < steps; ++p) __builtin_memcpy(out + p * kWidth, x + p * ld, sizeof(float) * kWidth);
    }
    for (; p < steps; ++p) {
      for (int i = 0; i < kWidth; ++i) out[p * kWidth + i] = i < n ? x[p * ld + i] : 0.0f;
    }
    return;
  }
#if FOVEA_ISA_LEVEL > 0
  for (; p + 8 <= steps; p += 8) {
    for (int i = 0; i < kWidth; i += 8) {
      const int rows = n - i < 8 ? n - i : 8, width = kWidth - i < 8 ? kWidth - i : 8;
      transpose8(x + i * step + p, step, rows, out + p * kWidth + i, kWidth, width);
    }
  }
#endif
  const float* from = x + p;
  float* to = out + p * kWidth;
  for (int64_t left = steps - p; left > 0; --left, ++from, to += kWidth) {
    for (int i = 0; i < kWidth; ++i) to[i] = i < n ? from[i * step] : 0.0f;
  }
}

// c [kRows][kCols] = a b over `steps`, from zero or from c; a [steps][ld_a], b [steps][ld_b].
FOVEA_INLINE void tile_product(const float* a, int64_t ld_a, const float* b, int64_t ld_b, int64_t steps, float* c,
                               int64_t ld_c, bool from_c) {
  F32 sums[kRows][kNV];
  FOVEA_UNROLL
  for (int r = 0; r < kRows; ++r) {
    FOVEA_UNROLL
    for (int v = 0; v < kNV; ++v) sums[r][v] = from_c ? F32::load(c + r * ld_c + v * kLanes) : F32::zero();
  }
  for (int64_t p = 0; p < steps; ++p) {
    F32 x[kNV];
    FOVEA_UNROLL
    for (int v = 0; v < kNV; ++v) x[v] = F32::load(b + v * kLanes);
    FOVEA_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const F32 by = F32::all(a[r]);
      FOVEA_UNROLL
      for (int v = 0; v < kNV; ++v) sums[r][v] = mul_add(x[v], by, sums[r][v]);
    }
    a += ld_a, b += ld_b;
  }
  FOVEA_UNROLL
  for (int r = 0; r < kRows; ++r) {
    FOVEA_UNROLL
    for (int v = 0; v < kNV; ++v) sums[r][v].store(c + r * ld_c + v * kLanes);
  }
}

// A tile at the edge of C goes through a copy.
inline void edge_product(const float* a, int64_t ld_a, const float* b, int64_t ld_b, int64_t steps, float* c,
                         int64_t ld_c, bool from_c, int rows, int cols) {
  float whole[kRows * kCols] = {};
  for (int r = 0; r < rows && from_c; ++r) {
    for (int j = 0; j < cols; ++j) whole[r * kCols + j] = c[r * ld_c + j];
  }
  tile_product(a, ld_a, b, ld_b, steps, whole, kCols, from_c);
  for (int r = 0; r < rows; ++r) {
    for (int j = 0; j < cols; ++j) c[r * ld_c + j] = whole[r * kCols + j];
  }
}

}  // namespace
}  // namespace fovea::kernels::FOVEA_ISA_NS
