// Products of float weights as int16 codes, for `fast`; for matmul.cc only. 64 columns share a scale, of a row
// and of a token each. A panel is
//   codes   [cols / 2][16][2]  int16: step j holds columns 2j and 2j + 1 of row r
//   scales  [cols / 64][16]    BF16, rounded up; then zeros to whole lines
// Weights have codes up to 4095, activations up to 8191: 64 products fit an int32, so that their sum is exact in any
// order, and every element is, over blocks b in rising order:
//   acc = fma(float(idot), w_scale * x_scale, acc)
// Twice as fast as float32, and five times closer to it than the products of bf16 that processors have.
#pragma once

#include "fovea/kernels/codes.h"
#include "fovea/kernels/f32.h"
#include "fovea/kernels/float_panels.h"
#include "fovea/kernels/matmul.h"
#include "fovea/kernels/matmul_out.h"
#include "fovea/kernels/pack.h"
#include "fovea/kernels/pairs.h"
#include "fovea/kernels/with_tokens.h"

namespace fovea::kernels::FOVEA_ISA_NS {
namespace {

inline constexpr int kBlock16 = 64;  // columns
inline constexpr int kMostWeight16 = 4095, kMostActivation16 = 8191;
static_assert(int64_t{kBlock16} * kMostWeight16 * kMostActivation16 <= INT32_MAX);

// Nothing smaller is told from 0: its inverse must stay finite.
inline constexpr float kLeast16 = 1e-30f;

inline uint16_t rounded_up_bf16(float x) {  // x >= 0 or NaN
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  return static_cast<uint16_t>(x != x ? 0x7fc0u : (bits + 0xffffu) >> 16);
}
inline float bf16_value(uint16_t half) {
  const uint32_t bits = static_cast<uint32_t>(half) << 16;
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

// Codes of a block under its scale, 1 / scale being `by`.
inline void write_codes16(const float* x, float scale, float by, float* to_scale, int16_t* to) {
  *to_scale = scale <= kLeast16 ? 0.0f : scale;  // NaN stays
  if (!(scale > kLeast16)) {
    std::memset(to, 0, kBlock16 * sizeof *to);
    return;
  }
  for (int i = 0; i < kBlock16; i += 2 * F32::kLanes)
    store_codes(F32::load(x + i) * F32::all(by), F32::load(x + i + F32::kLanes) * F32::all(by), to + i);
}

#if FOVEA_ISA_LEVEL == 2
// largest_of() of four blocks that lie one after the other: what is a register for one of them is a lane for four.
inline __m128 largest_of_four(const float* x) {
  const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
  __m512i m[4];
  FOVEA_UNROLL
  for (int b = 0; b < 4; ++b) {
    m[b] = _mm512_setzero_si512();
    FOVEA_UNROLL
    for (int i = 0; i < kBlock16; i += 16)
      m[b] = _mm512_max_epu32(m[b], _mm512_and_si512(_mm512_loadu_si512(x + b * kBlock16 + i), magnitude));
  }
  const __m512i m01 = _mm512_max_epu32(_mm512_unpacklo_epi32(m[0], m[1]), _mm512_unpackhi_epi32(m[0], m[1]));
  const __m512i m23 = _mm512_max_epu32(_mm512_unpacklo_epi32(m[2], m[3]), _mm512_unpackhi_epi32(m[2], m[3]));
  const __m512i all = _mm512_max_epu32(_mm512_unpacklo_epi64(m01, m23), _mm512_unpackhi_epi64(m01, m23));
  const __m256i half = _mm256_max_epu32(_mm512_castsi512_si256(all), _mm512_extracti64x4_epi64(all, 1));
  const __m128i most = _mm_max_epu32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
  const __mmask8 not_finite = _mm_cmpge_epu32_mask(most, _mm_set1_epi32(0x7f800000));
  return _mm_mask_mov_ps(_mm_castsi128_ps(most), not_finite, _mm_set1_ps(__builtin_nanf("")));
}
#endif

void quantize_columns16(const float* x, int64_t ld_x, int64_t n_tokens, int64_t cols, int64_t token_begin,
                        int64_t token_end, int64_t col_begin, int64_t col_end, void* out) {
  auto* codes = static_cast<int16_t*>(out);
  auto* scales = reinterpret_cast<float*>(codes + n_tokens * cols);
  for (int64_t t = token_begin; t < token_end; ++t) {
    const float* from = x + t * ld_x;
    int64_t c = col_begin;
    const auto write = [&](float scale, float by) {
      write_codes16(from + c, scale, by, scales + (t * cols + c) / kBlock16, codes + t * cols + c);
      c += kBlock16;
    };
#if FOVEA_ISA_LEVEL == 2
    while (c + 4 * kBlock16 <= col_end) {
      alignas(16) float scale[4], by[4];
      const __m128 four = _mm_mul_ps(largest_of_four(from + c), _mm_set1_ps(1.0f / kMostActivation16));
      _mm_store_ps(scale, four);
      _mm_store_ps(by, _mm_div_ps(_mm_set1_ps(1.0f), four));
      for (int b = 0; b < 4; ++b) write(scale[b], by[b]);
    }
#endif
    while (c < col_end) {
      const float scale = largest_of(from + c, kBlock16) * (1.0f / kMostActivation16);
      write(scale, 1.0f / scale);
    }
  }
}

void pack_int16(const WeightView& w, int64_t panel_begin, int64_t panel_end, void* out) {
  constexpr int64_t kStep = 512;  // columns at a time
  const auto bytes = static_cast<int64_t>(int16_panel_bytes(w.cols));
  const auto stride = static_cast<int64_t>(row_bytes(w.dtype, w.cols));
  for (int64_t panel = panel_begin; panel < panel_end; ++panel) {
    auto* to = static_cast<uint8_t*>(out) + panel * bytes;
    std::memset(to, 0, static_cast<size_t>(bytes));
    const int64_t first = panel * kPanelRows, n_rows = w.rows - first < kPanelRows ? w.rows - first : kPanelRows;
    for (int64_t r = 0; r < n_rows; ++r) {
      const auto* row = static_cast<const uint8_t*>(w.data) + (first + r) * stride;
      for (int64_t begin = 0; begin < w.cols; begin += kStep) {
        const int64_t n = w.cols - begin < kStep ? w.cols - begin : kStep;
        float x[kStep];
        kernels::dequantize(w.dtype, row + begin * stride / w.cols, n, x);
        for (int64_t c = 0; c < n; c += kBlock16) {
          uint16_t scale = rounded_up_bf16(largest_of(x + c, kBlock16) * (1.0f / kMostWeight16));
          if (bf16_value(scale) <= kLeast16) scale = 0;
          int32_t codes[kBlock16];
          round_codes(x + c, kBlock16, scale ? 1.0f / bf16_value(scale) : 0.0f, kMostWeight16, codes);
          spread_pairs(codes, kBlock16, 32, reinterpret_cast<int16_t*>(to) + (begin + c) * kPanelRows + 2 * r);
          std::memcpy(to + w.cols * 32 + (begin + c) / kBlock16 * 32 + 2 * r, &scale, 2);
        }
      }
    }
  }
}

struct Int16Args {
  const MatmulArgs& args;
  int64_t cols = args.w.cols, n_blocks = cols / kBlock16;
  const int16_t* codes = static_cast<const int16_t*>(args.quantized);
  const float* scales = reinterpret_cast<const float*>(codes + args.n_tokens * cols);
};

#if FOVEA_ISA_LEVEL > 0

#if FOVEA_ISA_LEVEL == 2
inline constexpr int kInt16Tokens = 6, kInt16Panels = 2;
#else
inline constexpr int kInt16Tokens = 3, kInt16Panels = 1;
#endif

// T tokens from t on; the panels of `out`'s rows, or of the two products of a gate.
template <int T, int P, bool kPrefetch>
void int16_tile(const Int16Args& a, const uint8_t* const* panels, int64_t t, const Out& out) {
  constexpr int kV = kPanelRows / F32::kLanes;
  constexpr int kChains = T * P * kV < 8 ? 2 : 1;  // so that no product waits for the last
  const int16_t* x = a.codes + t * a.cols;
  F32 acc[T][P][kV];
  FOVEA_UNROLL
  for (int i = 0; i < T; ++i) {
    FOVEA_UNROLL
    for (int p = 0; p < P; ++p) {
      FOVEA_UNROLL
      for (int v = 0; v < kV; ++v) acc[i][p][v] = F32::zero();
    }
  }
  for (int64_t b = 0; b < a.n_blocks; ++b) {
    Sums dot[T][P][kV][kChains];
    FOVEA_UNROLL
    for (int i = 0; i < T; ++i) {
      FOVEA_UNROLL
      for (int p = 0; p < P; ++p) {
        FOVEA_UNROLL
        for (int v = 0; v < kV; ++v) {
          FOVEA_UNROLL
          for (int c = 0; c < kChains; ++c) dot[i][p][v][c] = Sums::zero();
        }
      }
    }
    constexpr int kSteps = kBlock16 / 2, kUnrolled = 8;  // else the compiler moves every sum at every step
    for (int step = 0; step < kSteps; step += kUnrolled) {
      FOVEA_UNROLL
      for (int k = 0; k < kUnrolled; ++k) {
        const int c = k % kChains;
        const int64_t at = b * kSteps + step + k;
        Pairs w[P][kV];
        FOVEA_UNROLL
        for (int p = 0; p < P; ++p) {
          const auto* from = reinterpret_cast<const int16_t*>(panels[p]) + at * 2 * kPanelRows;
          if constexpr (kPrefetch) _mm_prefetch(reinterpret_cast<const char*>(from + kPrefetchBytes), _MM_HINT_T0);
          FOVEA_UNROLL
          for (int v = 0; v < kV; ++v) w[p][v] = Pairs::load(from + v * 2 * F32::kLanes);
        }
        FOVEA_UNROLL
        for (int i = 0; i < T; ++i) {
          const Pairs by = Pairs::all(x + i * a.cols + 2 * at);
          FOVEA_UNROLL
          for (int p = 0; p < P; ++p) {
            FOVEA_UNROLL
            for (int v = 0; v < kV; ++v) dot[i][p][v][c] = dot_add(w[p][v], by, dot[i][p][v][c]);
          }
        }
      }
    }
    FOVEA_UNROLL
    for (int p = 0; p < P; ++p) {
      FOVEA_UNROLL
      for (int v = 0; v < kV; ++v) {
        const uint8_t* scales = panels[p] + a.cols * 32 + b * 32 + v * F32::kLanes * 2;
        const F32 scale = load_weights<DType::kBF16>(scales);
        FOVEA_UNROLL
        for (int i = 0; i < T; ++i) {
          const Sums sum = kChains == 2 ? dot[i][p][v][0] + dot[i][p][v][kChains - 1] : dot[i][p][v][0];
          const F32 by = scale * F32::all(a.scales[(t + i) * a.n_blocks + b]);
          acc[i][p][v] = mul_add(sum.floats(), by, acc[i][p][v]);
        }
      }
    }
  }
#if FOVEA_ISA_LEVEL == 2
  if constexpr (P == 2) {
    for (int i = 0; out.gates && i < T; ++i) put_gated(acc[i][0][0], acc[i][1][0], out, i);
    if (out.gates) return;
  }
#endif
  Out of_panel = out;
  for (int p = 0; p < P; ++p, of_panel = of_panel.next_panel()) {
    for (int i = 0; i < T; ++i) {
      for (int v = 0; v < kV; ++v) put(acc[i][p][v], of_panel, i, v * F32::kLanes);
    }
  }
}

#else

inline constexpr int kInt16Tokens = 1, kInt16Panels = 1;

template <int T, int P, bool kPrefetch>
void int16_tile(const Int16Args& a, const uint8_t* const* panels, int64_t t, const Out& out) {
  const int16_t* x = a.codes + t * a.cols;
  for (int r = 0; r < out.n_rows; ++r) {
    float acc = 0;
    for (int64_t b = 0; b < a.n_blocks; ++b) {
      int32_t dot = 0;
      for (int64_t c = b * kBlock16; c < (b + 1) * kBlock16; ++c) {
        int16_t code;
        std::memcpy(&code, panels[0] + c / 2 * 64 + 4 * r + c % 2 * 2, 2);
        dot += code * x[c];
      }
      uint16_t scale;
      std::memcpy(&scale, panels[0] + a.cols * 32 + b * 32 + 2 * r, 2);
      acc = std::fma(static_cast<float>(dot), bf16_value(scale) * a.scales[t * a.n_blocks + b], acc);
    }
    put(acc, out, 0, r);
  }
}

#endif

class Int16Matmul {
 public:
  explicit Int16Matmul(const MatmulArgs& args) : a_{args} {}

  void run() const {
    const MatmulArgs& args = a_.args;
    const bool few = args.token_end - args.token_begin < kFew;
    for (int64_t row = args.row_begin; row < args.row_end;) {
      const int64_t n_panels = (args.row_end - row + kPanelRows - 1) / kPanelRows;
      const uint8_t* panels[kFewPanels] = {};
      const int n = few && n_panels >= kFewPanels ? kFewPanels : n_panels >= kInt16Panels ? kInt16Panels : 1;
      for (int p = 0; p < n; ++p) panels[p] = panel_at(args, row + p * kPanelRows, p);
      if (few && n == kFewPanels) {
        tokens<kFewPanels, kFew - 1, true>(panels, out_at(row, n));
      } else if (n == kInt16Panels) {
        tokens<kInt16Panels, kInt16Tokens, false>(panels, out_at(row, n));
      } else {
        tokens<1, kInt16Tokens, false>(panels, out_at(row, n));
      }
      row += n * kPanelRows;
    }
  }

#if FOVEA_ISA_LEVEL == 2
  // With the product that it gates, of the same type and columns.
  void run_gated(const MatmulArgs& up) const {
    const MatmulArgs& args = a_.args;
    for (int64_t row = args.row_begin; row < args.row_end; row += kPanelRows) {
      const uint8_t* panels[2] = {panel_at(args, row, 0), panel_at(up, row, 1)};
      Out out = out_at(row, 1);
      out.gates = true, out.second_bias = up.bias ? up.bias + row : nullptr;
      tokens<2, kInt16Tokens, false>(panels, out);
    }
  }
#endif

 private:
  static constexpr int kFew = 3;  // tokens for which weights come from memory, from several panels at once
#ifdef FOVEA_FEW_TILES
  static constexpr int kFewPanels = FOVEA_ISA_LEVEL == 0 ? 1 : 2, kMostTokens = FOVEA_ISA_LEVEL == 0 ? 1 : 2;
#else
  static constexpr int kFewPanels = FOVEA_ISA_LEVEL == 2 ? 4 : FOVEA_ISA_LEVEL == 1 ? 2 : 1, kMostTokens = kInt16Tokens;
#endif

  const uint8_t* panel_at(const MatmulArgs& args, int64_t row, int room) const {
    const auto bytes = static_cast<int64_t>(int16_panel_bytes(args.w.cols));
    if (args.packed) return static_cast<const uint8_t*>(args.packed) + row / kPanelRows * bytes;
    WeightView one = args.w;  // this panel alone
    one.rows = args.w.rows - row;
    one.data = static_cast<const uint8_t*>(args.w.data) + row * static_cast<int64_t>(row_bytes(one.dtype, one.cols));
    uint8_t* to = static_cast<uint8_t*>(args.scratch) + room * bytes;
    pack_int16(one, 0, 1, to);
    return to;
  }
  Out out_at(int64_t row, int n_panels) const {
    return out_of(a_.args, row, a_.args.token_begin, n_panels * kPanelRows);
  }

  template <int P, int kMost, bool kPrefetch>
  void tokens(const uint8_t* const* panels, Out out) const {
    constexpr int kTile = kMost < kMostTokens ? kMost : kMostTokens;
    for (int64_t t = a_.args.token_begin; t < a_.args.token_end;) {
      const int64_t left = a_.args.token_end - t;
      const int n = static_cast<int>(left < kTile ? left : kTile);
      with_tokens<kTile>(n, [&](auto count) { int16_tile<decltype(count)::value, P, kPrefetch>(a_, panels, t, out); });
      t += n, out.y += n * out.ld;
      if (out.residual) out.residual += n * out.ld;
    }
  }

  Int16Args a_;
};

}  // namespace
}  // namespace fovea::kernels::FOVEA_ISA_NS
