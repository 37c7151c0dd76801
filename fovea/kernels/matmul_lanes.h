// One panel of 16 rows times a few tokens, by instruction set; private to matmul.cc. All give, for
// every element and blocks b in rising order:
//   acc = fma(float(idot), w_scale * x_scale, acc);  acc = fma(offset, x_sum, acc)
// where idot is the exact integer sum of q * (code - zero) over the block (its halves in turn, if
// they have scales of their own).
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "fovea/kernels/blocks.h"
#include "fovea/kernels/matmul_out.h"
#include "fovea/kernels/pack.h"

namespace fovea::kernels::FOVEA_ISA_NS {
namespace {

inline constexpr int64_t kPrefetchBytes = 4096;

// How far codes must move left for their zero point to be 128.
constexpr int to_128(const PackKind& kind) { return kind.zero_log2 < 0 ? 0 : 7 - kind.zero_log2; }

// What the zero point takes from the sum over scale s of a block, as BlockMeta says it.
template <const PackKind& K>
inline int32_t negative_of(const BlockMeta& m, int s) {
  return K.n_scales == 1 ? m.negative : m.negative_half[s];
}

struct PanelArgs {
  const uint8_t* packed;  // the panel's blocks
  const uint8_t* spread;  // the same spread; null: read `packed`
  int64_t ld_spread;      // from one block to the next
  int64_t n_blocks;
  const int8_t* q;  // of the first token
  int64_t ld_q;
  const BlockMeta* meta;  // likewise; tokens are n_blocks apart
};

#if FOVEA_ISA_LEVEL > 0
// Few tokens: the panels are read once, straight from memory, faster than the hardware looks ahead. Past the
// end of the last panel a prefetch does nothing.
template <const PackKind& K>
inline void prefetch_block(const uint8_t* block) {
  for (int i = -K.header_bytes(); i < K.block_bytes(); i += 64)
    _mm_prefetch(reinterpret_cast<const char*>(block + kPrefetchBytes + i), _MM_HINT_T0);
}
#endif

#if FOVEA_ISA_LEVEL == 2

FOVEA_INLINE __m512i step_codes(const PackKind kind, const uint8_t* block, int j) {
  const auto at = [&](int offset) { return _mm512_loadu_si512(block + offset); };
  if (kind.bits == 8) return at(kind.codes_at() + 64 * j);
  if (kind.bits < 4) {
    const __m512i two = _mm512_srli_epi16(at(kind.codes_at() + 64 * (j / 4)), static_cast<unsigned>(2 * (j % 4)));
    const __m512i v = _mm512_and_si512(two, _mm512_set1_epi8(3));
    if (kind.bits == 2) return v;
    const __m512i high = at(kind.high_at());
    const __m512i moved = j <= 2 ? _mm512_slli_epi16(high, static_cast<unsigned>(2 - j))
                                 : _mm512_srli_epi16(high, static_cast<unsigned>(j - 2));
    return _mm512_ternarylogic_epi32(v, moved, _mm512_set1_epi8(4), 0xf8);
  }
  __m512i v = at(kind.codes_at() + 64 * (j & 3));
  if (j >= 4) v = _mm512_srli_epi16(v, 4);
  v = _mm512_and_si512(v, _mm512_set1_epi8(0x0f));
  if (kind.bits == 5) {
    const __m512i high = at(kind.high_at());
    const __m512i moved = j <= 4 ? _mm512_slli_epi16(high, static_cast<unsigned>(4 - j))
                                 : _mm512_srli_epi16(high, static_cast<unsigned>(j - 4));
    // v | (moved & 0x10)
    v = _mm512_ternarylogic_epi32(v, moved, _mm512_set1_epi8(0x10), 0xf8);
  } else if (kind.bits == 6) {
    const __m512i high = at(kind.high_at() + 64 * (j / 4));
    const int shift = 4 - 2 * (j % 4);
    const __m512i moved = shift >= 0 ? _mm512_slli_epi16(high, static_cast<unsigned>(shift))
                                     : _mm512_srli_epi16(high, static_cast<unsigned>(-shift));
    v = _mm512_ternarylogic_epi32(v, moved, _mm512_set1_epi8(0x30), 0xf8);
  }
  if (kind.book == Book::kNone) return v;
  const auto* book = reinterpret_cast<const __m128i*>(kind.book == Book::kIq4 ? kBookIq4 : kBookE2M1);
  return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_load_si128(book)), v);
}

inline __m512 load_halves(const uint8_t* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
inline __m512 load_powers(const uint8_t* p) {  // half_power() of 16 bytes
  const __m512i e = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  const __m512i bits = _mm512_slli_epi32(_mm512_sub_epi32(e, _mm512_set1_epi32(1)), 23);
  return _mm512_castsi512_ps(
      _mm512_mask_sllv_epi32(bits, _mm512_cmplt_epu32_mask(e, _mm512_set1_epi32(2)), _mm512_set1_epi32(0x00200000), e));
}
// Scale i of block b, or its offsets: i = n_scales.
template <const PackKind& K>
inline __m512 load_factor(const uint8_t* packed, int64_t b, int i) {
  const uint8_t* own = packed + K.block_at(b) + i * K.scale_bytes();
  if constexpr (K.scales == Scales::kFloat) return _mm512_loadu_ps(own);
  if constexpr (K.scales == Scales::kPower) return load_powers(own);
  if constexpr (!K.grouped) return load_halves(own);
  const __m512i whole = _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(own)));
  return _mm512_mul_ps(load_halves(packed + K.group_at(b) + (i == K.n_scales ? 32 : 0)), _mm512_cvtepi32_ps(whole));
}

// Codes are moved so that every zero point is 128: one constant per token and block, ready to load. The scales make
// up for it, exactly.
template <const PackKind& K>
void spread_panel(const uint8_t* packed, int64_t n_blocks, uint8_t* out, int64_t ld) {
  for (int64_t b = 0; b < n_blocks; ++b) {
    uint8_t* to = out + b * ld;
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j) {
      const __m512i codes = step_codes(K, packed + K.block_at(b), j);
      _mm512_storeu_si512(to + j * 64, _mm512_slli_epi16(codes, to_128(K)));
    }
    for (int i = 0; i < K.n_factors(); ++i) {
      __m512 factor = load_factor<K>(packed, b, i);
      if (i < K.n_scales) factor = _mm512_mul_ps(factor, _mm512_set1_ps(1.0f / (1 << to_128(K))));
      _mm512_storeu_ps(to + 512 + 64 * i, factor);
    }
  }
}

// y [T][16]
template <const PackKind& K, int T, bool kSpread>
void panel_tile(const PanelArgs& a, const Out& out) {
  __m512 acc[T];
  for (int t = 0; t < T; ++t) acc[t] = _mm512_setzero_ps();
  for (int64_t b = 0; b < a.n_blocks; ++b) {
    const uint8_t* block = a.packed + K.block_at(b);
    const uint8_t* codes = kSpread ? a.spread + b * a.ld_spread : nullptr;
    if constexpr (!kSpread) prefetch_block<K>(block);
    const int8_t* q = a.q + b * 32;
    const BlockMeta* meta = a.meta + b;
    for (int s = 0; s < K.n_scales; ++s) {
      constexpr int kSteps = 8 / K.n_scales;
      constexpr int kChains = T <= 4 ? 2 : 1;  // few tokens: two sums, so that no product waits for the last
      __m512i dot[T][kChains];
#pragma GCC unroll 16
      for (int t = 0; t < T; ++t) {
        const BlockMeta& m = meta[t * a.n_blocks];
        if constexpr (K.zero_log2 < 0) {
          dot[t][0] = _mm512_setzero_si512();
        } else {
          dot[t][0] = _mm512_set1_epi32(negative_of<K>(m, s));
          if (!kSpread) dot[t][0] = _mm512_srai_epi32(dot[t][0], to_128(K));
        }
        if (kChains == 2) dot[t][kChains - 1] = _mm512_setzero_si512();
      }
#pragma GCC unroll 8
      for (int i = 0; i < kSteps; ++i) {
        const int j = s * kSteps + i;
        const __m512i c = kSpread ? _mm512_loadu_si512(codes + j * 64) : step_codes(K, block, j);
#pragma GCC unroll 16
        for (int t = 0; t < T; ++t) {
          int32_t four;
          std::memcpy(&four, q + t * a.ld_q + j * 4, 4);
          __m512i& d = dot[t][kChains == 2 ? i % 2 : 0];
          d = _mm512_dpbusd_epi32(d, c, _mm512_set1_epi32(four));
        }
      }
      const __m512 scale = kSpread ? _mm512_loadu_ps(codes + 512 + 64 * s) : load_factor<K>(a.packed, b, s);
#pragma GCC unroll 16
      for (int t = 0; t < T; ++t) {
        const __m512i sum = kChains == 2 ? _mm512_add_epi32(dot[t][0], dot[t][kChains - 1]) : dot[t][0];
        acc[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum),
                                 _mm512_mul_ps(scale, _mm512_set1_ps(meta[t * a.n_blocks].scale)), acc[t]);
      }
    }
    if constexpr (K.offset) {
      const __m512 offset =
          kSpread ? _mm512_loadu_ps(codes + 512 + 64 * K.n_scales) : load_factor<K>(a.packed, b, K.n_scales);
#pragma GCC unroll 16
      for (int t = 0; t < T; ++t) acc[t] = _mm512_fmadd_ps(offset, _mm512_set1_ps(meta[t * a.n_blocks].sum), acc[t]);
    }
  }
  for (int t = 0; t < T; ++t) put({acc[t]}, out, t);
}
inline constexpr int kMostTokens = 12;
inline constexpr int kDirectTokens = 8;  // 382 GOP/s a core at 8 (q4_1), 292 through bytes; at 12 they are even

// Two panels beside each other and kPairTokens tokens: every activation that is loaded feeds two products, so that
// loads no longer hold them up. Block by block, the second follows the first in `spread`. Same sums, same order.
inline constexpr int kPairTokens = 6;
template <const PackKind& K>
void pair_tile(const PanelArgs& a, const Out& out) {
  constexpr int T = kPairTokens, kSteps = 8 / K.n_scales, kSecond = K.spread_bytes();
  __m512 acc[T][2];
  for (int t = 0; t < T; ++t) acc[t][0] = acc[t][1] = _mm512_setzero_ps();
  for (int64_t b = 0; b < a.n_blocks; ++b) {
    const uint8_t* codes = a.spread + b * a.ld_spread;
    const int8_t* q = a.q + b * 32;
    const BlockMeta* meta = a.meta + b;
    for (int s = 0; s < K.n_scales; ++s) {
      __m512i dot[T][2];
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) {
        dot[t][0] =
            K.zero_log2 < 0 ? _mm512_setzero_si512() : _mm512_set1_epi32(negative_of<K>(meta[t * a.n_blocks], s));
        dot[t][1] = dot[t][0];
      }
#pragma GCC unroll 8
      for (int i = 0; i < kSteps; ++i) {
        const int j = s * kSteps + i;
        const __m512i c0 = _mm512_loadu_si512(codes + j * 64), c1 = _mm512_loadu_si512(codes + kSecond + j * 64);
#pragma GCC unroll 8
        for (int t = 0; t < T; ++t) {
          int32_t four;
          std::memcpy(&four, q + t * a.ld_q + j * 4, 4);
          const __m512i x = _mm512_set1_epi32(four);
          dot[t][0] = _mm512_dpbusd_epi32(dot[t][0], c0, x);
          dot[t][1] = _mm512_dpbusd_epi32(dot[t][1], c1, x);
        }
      }
      const auto factor = [&](int i, int p) { return _mm512_loadu_ps(codes + p * kSecond + 512 + 64 * i); };
      const __m512 scale[2] = {factor(s, 0), factor(s, 1)};
      // Both panels of a token beside each other are 3 % faster on a Zen 4, with two scales a percent slower.
      constexpr bool kBeside = K.n_scales == 1;
#pragma GCC unroll 16
      for (int i = 0; i < 2 * T; ++i) {
        const int t = kBeside ? i / 2 : i % T, p = kBeside ? i % 2 : i / T;
        const BlockMeta& m = meta[t * a.n_blocks];
        const __m512 by = _mm512_mul_ps(scale[p], _mm512_set1_ps(m.scale));
        acc[t][p] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot[t][p]), by, acc[t][p]);
        if constexpr (K.offset) acc[t][p] = _mm512_fmadd_ps(factor(1, p), _mm512_set1_ps(m.sum), acc[t][p]);
      }
    }
  }
  if (out.gates) {
    for (int t = 0; t < T; ++t) put_gated({acc[t][0]}, {acc[t][1]}, out, t);
    return;
  }
  const Out second = out.next_panel();
  for (int t = 0; t < T; ++t) put({acc[t][0]}, out, t), put({acc[t][1]}, second, t);
}

// w [cols][16] floats; x row t at x + t * ld_x.
template <int T>
void float_tile(const float* w, int64_t cols, const float* x, int64_t ld_x, const Out& out) {
  __m512 acc[T];
  for (int t = 0; t < T; ++t) acc[t] = _mm512_setzero_ps();
  for (int64_t c = 0; c < cols; ++c) {
    const __m512 v = _mm512_loadu_ps(w + c * 16);
#pragma GCC unroll 16
    for (int t = 0; t < T; ++t) acc[t] = _mm512_fmadd_ps(v, _mm512_set1_ps(x[t * ld_x + c]), acc[t]);
  }
  for (int t = 0; t < T; ++t) put({acc[t]}, out, t);
}

#elif FOVEA_ISA_LEVEL == 1

// Eight rows: half h of a 64-byte vector.
FOVEA_INLINE __m256i step_codes(const PackKind kind, const uint8_t* block, int j, int h) {
  const auto at = [&](int offset) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(block + offset + 32 * h));
  };
  if (kind.bits == 8) return at(kind.codes_at() + 64 * j);
  if (kind.bits < 4) {
    const __m256i two = _mm256_srli_epi16(at(kind.codes_at() + 64 * (j / 4)), 2 * (j % 4));
    const __m256i v = _mm256_and_si256(two, _mm256_set1_epi8(3));
    if (kind.bits == 2) return v;
    const __m256i high = at(kind.high_at());
    const __m256i moved = j <= 2 ? _mm256_slli_epi16(high, 2 - j) : _mm256_srli_epi16(high, j - 2);
    return _mm256_or_si256(v, _mm256_and_si256(moved, _mm256_set1_epi8(4)));
  }
  __m256i v = at(kind.codes_at() + 64 * (j & 3));
  if (j >= 4) v = _mm256_srli_epi16(v, 4);
  v = _mm256_and_si256(v, _mm256_set1_epi8(0x0f));
  if (kind.bits == 5) {
    const __m256i high = at(kind.high_at());
    const __m256i moved = j <= 4 ? _mm256_slli_epi16(high, 4 - j) : _mm256_srli_epi16(high, j - 4);
    v = _mm256_or_si256(v, _mm256_and_si256(moved, _mm256_set1_epi8(0x10)));
  } else if (kind.bits == 6) {
    const __m256i high = at(kind.high_at() + 64 * (j / 4));
    const int shift = 4 - 2 * (j % 4);
    const __m256i moved = shift >= 0 ? _mm256_slli_epi16(high, shift) : _mm256_srli_epi16(high, -shift);
    v = _mm256_or_si256(v, _mm256_and_si256(moved, _mm256_set1_epi8(0x30)));
  }
  if (kind.book == Book::kNone) return v;
  const auto* book = reinterpret_cast<const __m128i*>(kind.book == Book::kIq4 ? kBookIq4 : kBookE2M1);
  return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_load_si128(book)), v);
}

inline __m256 load_halves(const uint8_t* p, int h) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p) + h));
}
inline __m256 load_powers(const uint8_t* p) {  // half_power() of 8 bytes
  const __m256i e = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  const __m256i bits = _mm256_slli_epi32(_mm256_sub_epi32(e, _mm256_set1_epi32(1)), 23);
  const __m256i small = _mm256_cmpgt_epi32(_mm256_set1_epi32(2), e);
  return _mm256_castsi256_ps(_mm256_blendv_epi8(bits, _mm256_sllv_epi32(_mm256_set1_epi32(0x00200000), e), small));
}
// Scale i of block b, or its offsets: i = n_scales.
template <const PackKind& K>
inline __m256 load_factor(const uint8_t* packed, int64_t b, int i, int h) {
  const uint8_t* own = packed + K.block_at(b) + i * K.scale_bytes();
  if constexpr (K.scales == Scales::kFloat) return _mm256_loadu_ps(reinterpret_cast<const float*>(own) + 8 * h);
  if constexpr (K.scales == Scales::kPower) return load_powers(own + 8 * h);
  if constexpr (!K.grouped) return load_halves(own, h);
  const __m256i whole = _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(own + 8 * h)));
  return _mm256_mul_ps(load_halves(packed + K.group_at(b) + (i == K.n_scales ? 32 : 0), h), _mm256_cvtepi32_ps(whole));
}

template <const PackKind& K>
void spread_panel(const uint8_t* packed, int64_t n_blocks, uint8_t* out, int64_t ld) {
  for (int64_t b = 0; b < n_blocks; ++b) {
    uint8_t* to = out + b * ld;
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j) {
      for (int h = 0; h < 2; ++h) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + j * 64 + 32 * h),
                            step_codes(K, packed + K.block_at(b), j, h));
      }
    }
    for (int i = 0; i < K.n_factors(); ++i) {
      for (int h = 0; h < 2; ++h)
        _mm256_storeu_ps(reinterpret_cast<float*>(to + 512 + 64 * i) + 8 * h, load_factor<K>(packed, b, i, h));
    }
  }
}

// Both halves of a line together: what comes from memory is read in one sweep, and each activation that is loaded
// feeds two products.
template <const PackKind& K, int T, bool kSpread>
void panel_tile(const PanelArgs& a, const Out& out) {
  // maddubs adds two products in 16 bits: codes up to 15 and 31 leave room for 8 and 4 of them. With a zero point
  // all of a scale's sums fit as |code - zero| <= zero and |q| <= 127, so what it takes away is where they begin, and
  // that they wrap around in between does no harm. 8-bit codes, of which only one product fits, are made signed and the
  // sign moved to the activations.
  constexpr int kSteps = 8 / K.n_scales;
  constexpr bool kFromZero = K.zero_log2 >= 0 && K.width() != 8;
  constexpr int kRoom = K.width() == 8 ? 1 : kFromZero ? kSteps : K.bits == 4 ? 8 : 4;
  const __m256i ones = _mm256_set1_epi16(1);
  __m256 acc[T][2];
  for (int t = 0; t < T; ++t) acc[t][0] = acc[t][1] = _mm256_setzero_ps();
  for (int64_t b = 0; b < a.n_blocks; ++b) {
    const uint8_t* block = a.packed + K.block_at(b);
    const uint8_t* spread = kSpread ? a.spread + b * a.ld_spread : nullptr;
    if constexpr (!kSpread) prefetch_block<K>(block);
    const auto factor = [&](int i, int h) {
      return kSpread ? _mm256_loadu_ps(reinterpret_cast<const float*>(spread + 512 + 64 * i) + 8 * h)
                     : load_factor<K>(a.packed, b, i, h);
    };
    const int8_t* q = a.q + b * 32;
    const BlockMeta* meta = a.meta + b;
    for (int s = 0; s < K.n_scales; ++s) {
      __m256i dot[T][2], sum[T][2];
      if constexpr (kFromZero) {
        FOVEA_UNROLL
        for (int t = 0; t < T; ++t) {
          const __m256i pairs = _mm256_set1_epi32(negative_of<K>(meta[t * a.n_blocks], s));
          sum[t][0] = sum[t][1] = _mm256_slli_epi16(pairs, K.zero_log2);
        }
      }
      FOVEA_UNROLL
      for (int i = 0; i < kSteps; ++i) {
        const int j = s * kSteps + i;
        __m256i c[2];
        FOVEA_UNROLL
        for (int h = 0; h < 2; ++h) {
          c[h] = kSpread ? _mm256_loadu_si256(reinterpret_cast<const __m256i*>(spread + j * 64) + h)
                         : step_codes(K, block, j, h);
          if (K.width() == 8) c[h] = _mm256_xor_si256(c[h], _mm256_set1_epi8(static_cast<char>(0x80)));
        }
        FOVEA_UNROLL
        for (int t = 0; t < T; ++t) {
          int32_t four;
          std::memcpy(&four, q + t * a.ld_q + j * 4, 4);
          const __m256i x = _mm256_set1_epi32(four);
          FOVEA_UNROLL
          for (int h = 0; h < 2; ++h) {
            const __m256i product = K.width() == 8
                                        ? _mm256_maddubs_epi16(_mm256_abs_epi8(c[h]), _mm256_sign_epi8(x, c[h]))
                                        : _mm256_maddubs_epi16(c[h], x);
            sum[t][h] = i % kRoom == 0 && !kFromZero ? product : pinned(_mm256_add_epi16(sum[t][h], product));
          }
        }
        if (i % kRoom < kRoom - 1 && i < kSteps - 1) continue;
        FOVEA_UNROLL
        for (int t = 0; t < T; ++t) {
          FOVEA_UNROLL
          for (int h = 0; h < 2; ++h) {
            const __m256i fours = _mm256_madd_epi16(sum[t][h], ones);
            dot[t][h] = i < kRoom ? fours : pinned(_mm256_add_epi32(dot[t][h], fours));
          }
        }
      }
      FOVEA_UNROLL
      for (int t = 0; t < T; ++t) {
        FOVEA_UNROLL
        for (int h = 0; h < 2; ++h) {
          acc[t][h] =
              _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot[t][h]),
                              _mm256_mul_ps(factor(s, h), _mm256_set1_ps(meta[t * a.n_blocks].scale)), acc[t][h]);
        }
      }
    }
    if constexpr (K.offset) {
      FOVEA_UNROLL
      for (int t = 0; t < T; ++t) {
        FOVEA_UNROLL
        for (int h = 0; h < 2; ++h)
          acc[t][h] = _mm256_fmadd_ps(factor(K.n_scales, h), _mm256_set1_ps(meta[t * a.n_blocks].sum), acc[t][h]);
      }
    }
  }
  for (int t = 0; t < T; ++t) {
    for (int h = 0; h < 2; ++h) put({acc[t][h]}, out, t, 8 * h);
  }
}
inline constexpr int kMostTokens = 3;
inline constexpr int kDirectTokens = 8;  // 8 sequences of Qwen: 140 tokens a second, 120 through bytes

template <int T>
void float_tile(const float* w, int64_t cols, const float* x, int64_t ld_x, const Out& out) {
  __m256 acc[T][2];
  for (int t = 0; t < T; ++t) acc[t][0] = acc[t][1] = _mm256_setzero_ps();
  for (int64_t c = 0; c < cols; ++c) {
    const __m256 low = _mm256_loadu_ps(w + c * 16), high = _mm256_loadu_ps(w + c * 16 + 8);
    FOVEA_UNROLL
    for (int t = 0; t < T; ++t) {
      const __m256 v = _mm256_set1_ps(x[t * ld_x + c]);
      acc[t][0] = _mm256_fmadd_ps(low, v, acc[t][0]);
      acc[t][1] = _mm256_fmadd_ps(high, v, acc[t][1]);
    }
  }
  for (int t = 0; t < T; ++t) {
    for (int h = 0; h < 2; ++h) put({acc[t][h]}, out, t, 8 * h);
  }
}

#else

FOVEA_INLINE uint8_t one_code(const PackKind kind, const uint8_t* block, int step, int byte) {
  if (kind.bits == 8) return block[kind.codes_at() + step * 64 + byte];
  if (kind.bits < 4) {
    const int two = block[kind.codes_at() + step / 4 * 64 + byte] >> 2 * (step % 4) & 3;
    return static_cast<uint8_t>(two | (kind.bits == 3 ? (block[kind.high_at() + byte] >> step & 1) << 2 : 0));
  }
  const int low = block[kind.codes_at() + step % 4 * 64 + byte] >> (step < 4 ? 0 : 4) & 0xf;
  if (kind.bits == 5) return static_cast<uint8_t>(low | (block[kind.high_at() + byte] >> step & 1) << 4);
  if (kind.bits == 6)
    return static_cast<uint8_t>(low | (block[kind.high_at() + step / 4 * 64 + byte] >> 2 * (step % 4) & 3) << 4);
  return kind.book == Book::kIq4    ? kBookIq4[low]
         : kind.book == Book::kE2M1 ? kBookE2M1[low]
                                    : static_cast<uint8_t>(low);
}

template <const PackKind& K>
void spread_panel(const uint8_t* packed, int64_t n_blocks, uint8_t* out, int64_t ld) {
  for (int64_t b = 0; b < n_blocks; ++b) {
    for (int i = 0; i < 512; ++i) out[b * ld + i] = one_code(K, packed + K.block_at(b), i / 64, i % 64);
  }
}

// Scale i of block b, or its offset: i = n_scales.
template <const PackKind& K>
float one_factor(const uint8_t* packed, int64_t b, int i, int row) {
  const uint8_t* own = packed + K.block_at(b) + i * K.scale_bytes();
  if constexpr (K.scales == Scales::kFloat) {
    float scale;
    std::memcpy(&scale, own + row * 4, 4);
    return scale;
  }
  if constexpr (K.scales == Scales::kPower) return half_power(own[row]);
  if constexpr (!K.grouped) return load_half(own + row * 2);
  const float whole = static_cast<float>(static_cast<int8_t>(own[row]));
  return load_half(packed + K.group_at(b) + (i == K.n_scales ? 32 : 0) + row * 2) * whole;
}

template <const PackKind& K, int T, bool kSpread>
void panel_tile(const PanelArgs& a, const Out& out) {
  constexpr int kZero = K.zero_log2 < 0 ? 0 : 1 << K.zero_log2;
  for (int t = 0; t < T; ++t) {
    for (int r = 0; r < out.n_rows; ++r) {
      float acc = 0;
      for (int64_t b = 0; b < a.n_blocks; ++b) {
        const uint8_t* block = a.packed + K.block_at(b);
        const BlockMeta& m = a.meta[t * a.n_blocks + b];
        for (int s = 0; s < K.n_scales; ++s) {
          int32_t dot = 0;
          for (int i = 32 / K.n_scales * s; i < 32 / K.n_scales * (s + 1); ++i) {
            const int code = kSpread ? a.spread[b * a.ld_spread + i / 4 * 64 + 4 * r + i % 4]
                                     : one_code(K, block, i / 4, 4 * r + i % 4);
            dot += (code - kZero) * a.q[t * a.ld_q + b * 32 + i];
          }
          acc = std::fma(static_cast<float>(dot), one_factor<K>(a.packed, b, s, r) * m.scale, acc);
        }
        if (K.offset) acc = std::fma(one_factor<K>(a.packed, b, K.n_scales, r), m.sum, acc);
      }
      put(acc, out, t, r);
    }
  }
}
inline constexpr int kMostTokens = 1;
inline constexpr int kDirectTokens = 4;

template <int T>
void float_tile(const float* w, int64_t cols, const float* x, int64_t ld_x, const Out& out) {
  for (int t = 0; t < T; ++t) {
    float acc[16] = {};
    for (int64_t c = 0; c < cols; ++c) {
      for (int r = 0; r < 16; ++r) acc[r] = std::fma(w[c * 16 + r], x[t * ld_x + c], acc[r]);
    }
    for (int r = 0; r < out.n_rows; ++r) put(acc[r], out, t, r);
  }
}

#endif

}  // namespace
}  // namespace fovea::kernels::FOVEA_ISA_NS
