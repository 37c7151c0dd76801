// Products with float weights from their packed form: panels of kPanelRows rows in the file's own type,
// [cols][kPanelRows]. For matmul.cc only. The sums are those of float_tile: one per output, columns rising.
#pragma once

#include "fovea/kernels/f32.h"
#include "fovea/kernels/matmul.h"
#include "fovea/kernels/matmul_lanes.h"
#include "fovea/kernels/with_tokens.h"

namespace fovea::kernels::FOVEA_ISA_NS {
namespace {

template <DType D>
inline constexpr int kFloatBytes = D == DType::kF32 ? 4 : 2;

#if FOVEA_ISA_LEVEL > 0
template <DType D>
FOVEA_INLINE F32 load_weights(const uint8_t* p) {
  if constexpr (D == DType::kF32) {
    return F32::load(reinterpret_cast<const float*>(p));
  } else {
#if FOVEA_ISA_LEVEL == 2
    const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    if constexpr (D == DType::kF16) return {_mm512_cvtph_ps(half)};
    return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16))};
#else
    const __m128i half = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    if constexpr (D == DType::kF16) return {_mm256_cvtph_ps(half)};
    return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16))};
#endif
  }
}

// Few tokens: several panels beside each other, so that no sum waits for its last addition.
#if defined(FOVEA_FEW_TILES)
inline constexpr int kFewTokens = 2, kFewPanels = 2, kManyTokens = 2, kManyPanels = 2;
#elif FOVEA_ISA_LEVEL == 2  // 24 sums, the weights of a column, one of x
inline constexpr int kFewTokens = 6, kFewPanels = 4, kManyTokens = 12, kManyPanels = 2;
#else
inline constexpr int kFewTokens = 3, kFewPanels = 2, kManyTokens = 3, kManyPanels = 2;
#endif

// P panels from row `row` on, T tokens from t on. `w` is the first of the panels; they are `next` bytes apart.
template <DType D, int T, int P, bool kPrefetch>
void float_panels_tile(const MatmulArgs& args, const uint8_t* w, int64_t next, int64_t row, int64_t t) {
  constexpr int kV = kPanelRows / F32::kLanes, kStep = kPanelRows * kFloatBytes<D>;
  const float* x = args.x + t * args.ld_x;
  F32 sums[T][P][kV];
  FOVEA_UNROLL
  for (int i = 0; i < T; ++i) {
    FOVEA_UNROLL
    for (int p = 0; p < P; ++p) {
      FOVEA_UNROLL
      for (int v = 0; v < kV; ++v) sums[i][p][v] = F32::zero();
    }
  }
  for (int64_t c = 0; c < args.w.cols; ++c, w += kStep) {
    F32 weights[P][kV];
    FOVEA_UNROLL
    for (int p = 0; p < P; ++p) {
      if constexpr (kPrefetch) _mm_prefetch(reinterpret_cast<const char*>(w + p * next + kPrefetchBytes), _MM_HINT_T0);
      FOVEA_UNROLL
      for (int v = 0; v < kV; ++v) weights[p][v] = load_weights<D>(w + p * next + v * F32::kLanes * kFloatBytes<D>);
    }
    FOVEA_UNROLL
    for (int i = 0; i < T; ++i) {
      const F32 by = F32::all(x[i * args.ld_x + c]);
      FOVEA_UNROLL
      for (int p = 0; p < P; ++p) {
        FOVEA_UNROLL
        for (int v = 0; v < kV; ++v) sums[i][p][v] = mul_add(weights[p][v], by, sums[i][p][v]);
      }
    }
  }
  Out out = out_of(args, row, t, P * kPanelRows);
  for (int p = 0; p < P; ++p, out = out.next_panel()) {
    for (int i = 0; i < T; ++i) {
      for (int v = 0; v < kV; ++v) put(sums[i][p][v], out, i, v * F32::kLanes);
    }
  }
}

template <DType D, int P>
void few_tokens(const MatmulArgs& args, const uint8_t* w, int64_t next, int64_t row) {
  for (int64_t t = args.token_begin; t < args.token_end;) {
    const int64_t left = args.token_end - t;
    const int n = static_cast<int>(left < kFewTokens ? left : kFewTokens);
    with_tokens<kFewTokens>(
        n, [&](auto count) { float_panels_tile<D, decltype(count)::value, P, true>(args, w, next, row, t); });
    t += n;
  }
}
#endif

// A panel as float32: where it lies, or widened into `room`.
template <DType D>
const float* widened(const MatmulArgs& args, const uint8_t* panel, float* room) {
  if constexpr (D == DType::kF32) return reinterpret_cast<const float*>(panel);
  const int64_t n = args.w.cols * kPanelRows;
#if FOVEA_ISA_LEVEL > 0
  for (int64_t i = 0; i < n; i += F32::kLanes) load_weights<D>(panel + i * kFloatBytes<D>).store(room + i);
#else
  kernels::dequantize(D, panel, n, room);
#endif
  return room;
}

// Tokens [from, token_end) of one panel in float32.
inline void panel_of_floats(const MatmulArgs& args, const float* panel, int64_t row, int64_t from) {
  for (int64_t t = from; t < args.token_end;) {
    const int64_t left = args.token_end - t;
    const int n = static_cast<int>(left < kTileTokens ? left : kTileTokens);
    with_tokens<kTileTokens>(n, [&](auto count) {
      float_tile<decltype(count)::value>(panel, args.w.cols, args.x + t * args.ld_x, args.ld_x, out_of(args, row, t));
    });
    t += n;
  }
}

template <DType D>
void float_panels(const MatmulArgs& args) {
  const int64_t bytes = args.w.cols * kPanelRows * kFloatBytes<D>;
  const auto* packed = static_cast<const uint8_t*>(args.packed);
  auto* room = static_cast<float*>(args.scratch);
  int64_t row = args.row_begin;
#if FOVEA_ISA_LEVEL > 0
  constexpr int64_t kMany = 8;
  const bool few = args.token_end - args.token_begin < kMany;
  for (; few && row < args.row_end; row += kPanelRows) {
    const uint8_t* w = packed + row / kPanelRows * bytes;
    if (args.row_end - row <= (kFewPanels - 1) * kPanelRows) {
      few_tokens<D, 1>(args, w, bytes, row);
    } else {
      few_tokens<D, kFewPanels>(args, w, bytes, row);
      row += (kFewPanels - 1) * kPanelRows;
    }
  }
  for (; args.row_end - row > kPanelRows; row += kManyPanels * kPanelRows) {
    const uint8_t* w = packed + row / kPanelRows * bytes;
    const float* two[2] = {widened<D>(args, w, room), widened<D>(args, w + bytes, room + args.w.cols * kPanelRows)};
    int64_t t = args.token_begin;
    for (; t + kManyTokens <= args.token_end; t += kManyTokens)
      float_panels_tile<DType::kF32, kManyTokens, kManyPanels, false>(args, reinterpret_cast<const uint8_t*>(two[0]),
                                                                      4 * args.w.cols * kPanelRows, row, t);
    for (int p = 0; p < 2; ++p) panel_of_floats(args, two[p], row + p * kPanelRows, t);
  }
#endif
  for (; row < args.row_end; row += kPanelRows)
    panel_of_floats(args, widened<D>(args, packed + row / kPanelRows * bytes, room), row, args.token_begin);
}

inline void float_panels_matmul(const MatmulArgs& args) {
  switch (panel_float(args.w.dtype)) {
    case DType::kF32: return float_panels<DType::kF32>(args);
    case DType::kF16: return float_panels<DType::kF16>(args);
    case DType::kBF16: return float_panels<DType::kBF16>(args);
    default: return;
  }
}

}  // namespace
}  // namespace fovea::kernels::FOVEA_ISA_NS
