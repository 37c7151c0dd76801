// Products with Q2_K and Q3_K, whose 16 columns have scales (and minima) that are whole numbers under one float of the
// block; private to matmul.cc. The whole numbers multiply integer sums, so that 32 columns need one float scale:
//   isum = sum over the halves of scale * sum of q * (code - zero),   msum = sum over the halves of min * sum of q
//   Q3_K: acc = fma(float(isum), d * x_scale, acc)
//   Q2_K: acc = fma(d * float(isum) - dmin * float(msum), x_scale, acc)
// With AVX-512 a spread panel has the codes multiplied by their scales: of Q3_K 128 - scale * (code - 4), 0 to 252,
// under -d, which is Q8_0's form; of Q2_K scale * code, up to 45.
// Also here: in which form each kind is multiplied once it is spread.
#pragma once

#include "fovea/kernels/matmul_lanes.h"

namespace fovea::kernels::FOVEA_ISA_NS {
namespace {

// A spread panel of K is like one of `kind`.
template <const PackKind& K>
struct Spread {
  static constexpr const PackKind& kind = K;
};
#if FOVEA_ISA_LEVEL > 0
struct SpreadBytes {
  static constexpr const PackKind& kind = kPackQ8_0;
};
template <>
struct Spread<kPackIQ4_NL> : SpreadBytes {};
template <>
struct Spread<kPackIQ4_XS> : SpreadBytes {};
template <>
struct Spread<kPackWide> : SpreadBytes {};
#endif
#if FOVEA_ISA_LEVEL == 2
template <>
struct Spread<kPackMXFP4> : SpreadBytes {};
template <>
struct Spread<kPackQ3_K> : SpreadBytes {};
template <>
struct Spread<kPackWideHalves> {
  static constexpr const PackKind& kind = kPackQ6_K;
};
#elif FOVEA_ISA_LEVEL == 1
template <>
struct Spread<kPackMXFP4> {
  static constexpr const PackKind& kind = kPackQ5_0;
};
#endif

#if FOVEA_ISA_LEVEL == 2

// Bytes i of a block's scales and minima, a lane a row.
template <const PackKind& K>
inline __m512i whole_factor(const uint8_t* packed, int64_t b, int i) {
  const uint8_t* own = packed + K.block_at(b) + i * K.scale_bytes();
  return _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(own)));
}
// Minimum h of Q2_K as it multiplies BlockMeta::negative_half, which is -128 times a sum of q.
template <const PackKind& K>
inline __m512 least_of(const uint8_t* packed, int64_t b, int h) {
  const __m512 negated = load_halves(packed + K.group_at(b) + 32);
  const __m512 whole = _mm512_cvtepi32_ps(whole_factor<K>(packed, b, 2 + h));
  return _mm512_mul_ps(_mm512_mul_ps(negated, whole), _mm512_set1_ps(-0x1p-7f));
}

template <const PackKind& K>
void spread_halves(const uint8_t* packed, int64_t n_blocks, uint8_t* out, int64_t ld) {
  const __m512i low_bytes = _mm512_set1_epi16(0xff);
  for (int64_t b = 0; b < n_blocks; ++b) {
    const uint8_t* block = packed + K.block_at(b);
    uint8_t* to = out + b * ld;
    for (int h = 0; h < 2; ++h) {
      const __m512i whole = whole_factor<K>(packed, b, h);  // in both halves of a lane:
      const __m512i by = _mm512_mask_mov_epi16(_mm512_slli_epi32(whole, 16), 0x55555555u, whole);
      const __m512i from = _mm512_add_epi16(_mm512_slli_epi16(by, 2), _mm512_set1_epi16(128));
      const auto made = [&](__m512i codes) {
        const __m512i product = _mm512_mullo_epi16(codes, by);
        return K.bits == 3 ? _mm512_sub_epi16(from, product) : product;
      };
#pragma GCC unroll 4
      for (int j = 4 * h; j < 4 * h + 4; ++j) {
        const __m512i codes = step_codes(K, block, j);
        const __m512i even = made(_mm512_and_si512(codes, low_bytes)), odd = made(_mm512_srli_epi16(codes, 8));
        _mm512_storeu_si512(to + 64 * j, _mm512_or_si512(even, _mm512_slli_epi16(odd, 8)));
      }
    }
    const __m512 d = load_halves(packed + K.group_at(b));
    _mm512_storeu_ps(to + 512, K.bits == 3 ? _mm512_sub_ps(_mm512_setzero_ps(), d) : d);
    if constexpr (K.bits == 2) {
      for (int h = 0; h < 2; ++h) _mm512_storeu_ps(to + 576 + 64 * h, least_of<K>(packed, b, h));
    }
  }
}

// The float part of a block, as the head of this file has it.
template <const PackKind& K>
FOVEA_INLINE __m512 add_halves(__m512i isum, __m512 d, __m512 least0, __m512 least1, const BlockMeta& m, __m512 acc) {
  const __m512 x_scale = _mm512_set1_ps(m.scale), sum = _mm512_cvtepi32_ps(isum);
  if constexpr (K.bits == 3) return _mm512_fmadd_ps(sum, _mm512_mul_ps(d, x_scale), acc);
  __m512 part = _mm512_mul_ps(sum, d);
  part = _mm512_fmadd_ps(least0, _mm512_cvtepi32_ps(_mm512_set1_epi32(m.negative_half[0])), part);
  part = _mm512_fmadd_ps(least1, _mm512_cvtepi32_ps(_mm512_set1_epi32(m.negative_half[1])), part);
  return _mm512_fmadd_ps(part, x_scale, acc);
}

template <const PackKind& K, int T, bool kSpread>
void halves_tile(const PanelArgs& a, const Out& out) {
  __m512 acc[T];
  for (int t = 0; t < T; ++t) acc[t] = _mm512_setzero_ps();
  for (int64_t b = 0; b < a.n_blocks; ++b) {
    const uint8_t* block = a.packed + K.block_at(b);
    const uint8_t* spread = kSpread ? a.spread + b * a.ld_spread : nullptr;
    if constexpr (!kSpread) prefetch_block<K>(block);
    const int8_t* q = a.q + b * 32;
    const BlockMeta* meta = a.meta + b;
    __m512i dot[T][2];
    for (int h = 0; h < 2; ++h) {
#pragma GCC unroll 16
      for (int t = 0; t < T; ++t)
        dot[t][h] = K.bits == 3 ? _mm512_set1_epi32(meta[t * a.n_blocks].negative_half[h] >> to_128(K))
                                : _mm512_setzero_si512();
#pragma GCC unroll 4
      for (int j = 4 * h; j < 4 * h + 4; ++j) {
        const __m512i c = kSpread ? _mm512_loadu_si512(spread + 64 * j) : step_codes(K, block, j);
#pragma GCC unroll 16
        for (int t = 0; t < T; ++t) {
          int32_t four;
          std::memcpy(&four, q + t * a.ld_q + j * 4, 4);
          dot[t][h] = _mm512_dpbusd_epi32(dot[t][h], c, _mm512_set1_epi32(four));
        }
      }
    }
    const __m512 d = kSpread ? _mm512_loadu_ps(spread + 512) : load_halves(a.packed + K.group_at(b));
    __m512i by[2] = {};
    __m512 least[2] = {};
    for (int h = 0; h < 2; ++h) {
      if constexpr (!kSpread) by[h] = whole_factor<K>(a.packed, b, h);
      if constexpr (K.bits == 2) {
        least[h] = kSpread ? _mm512_loadu_ps(spread + 576 + 64 * h) : least_of<K>(a.packed, b, h);
      }
    }
#pragma GCC unroll 16
    for (int t = 0; t < T; ++t) {
      const __m512i first = kSpread ? dot[t][0] : _mm512_mullo_epi32(dot[t][0], by[0]);
      const __m512i second = kSpread ? dot[t][1] : _mm512_mullo_epi32(dot[t][1], by[1]);
      acc[t] = add_halves<K>(_mm512_add_epi32(first, second), d, least[0], least[1], meta[t * a.n_blocks], acc[t]);
    }
  }
  for (int t = 0; t < T; ++t) put({acc[t]}, out, t);
}

// As pair_tile, of Q2_K.
template <const PackKind& K>
void halves_pair(const PanelArgs& a, const Out& out) {
  constexpr int T = kPairTokens, kSecond = K.spread_bytes();
  __m512 acc[2][T];
  for (int t = 0; t < T; ++t) acc[0][t] = acc[1][t] = _mm512_setzero_ps();
  for (int64_t b = 0; b < a.n_blocks; ++b) {
    const uint8_t* codes = a.spread + b * a.ld_spread;
    const int8_t* q = a.q + b * 32;
    const BlockMeta* meta = a.meta + b;
    __m512i dot[2][T];
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) dot[0][t] = dot[1][t] = _mm512_setzero_si512();
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j) {
      const __m512i c0 = _mm512_loadu_si512(codes + j * 64), c1 = _mm512_loadu_si512(codes + kSecond + j * 64);
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) {
        int32_t four;
        std::memcpy(&four, q + t * a.ld_q + j * 4, 4);
        const __m512i x = _mm512_set1_epi32(four);
        dot[0][t] = _mm512_dpbusd_epi32(dot[0][t], c0, x);
        dot[1][t] = _mm512_dpbusd_epi32(dot[1][t], c1, x);
      }
    }
    const auto factor = [&](int i, int p) { return _mm512_loadu_ps(codes + p * kSecond + 512 + 64 * i); };
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
#pragma GCC unroll 2
      for (int p = 0; p < 2; ++p)  // what the token says is made once for both
        acc[p][t] = add_halves<K>(dot[p][t], factor(0, p), factor(1, p), factor(2, p), meta[t * a.n_blocks], acc[p][t]);
    }
  }
  if (out.gates) {
    for (int t = 0; t < T; ++t) put_gated({acc[0][t]}, {acc[1][t]}, out, t);
    return;
  }
  const Out second = out.next_panel();
  for (int t = 0; t < T; ++t) put({acc[0][t]}, out, t), put({acc[1][t]}, second, t);
}

template <const PackKind& K>
void spread_pair(const PanelArgs& a, const Out& out) {
  constexpr const PackKind& kSpread = Spread<K>::kind;
  if constexpr (kSpread.halves) {
    halves_pair<kSpread>(a, out);
  } else {
    pair_tile<kSpread>(a, out);
  }
}

#elif FOVEA_ISA_LEVEL == 1

// Byte i of a block's scales and minima of eight rows, twice as 16 bits in each lane.
template <const PackKind& K>
inline __m256i whole_pairs(const uint8_t* packed, int64_t b, int i, int h) {
  const uint8_t* own = packed + K.block_at(b) + i * K.scale_bytes() + 8 * h;
  const __m256i whole = _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(own)));
  return _mm256_or_si256(_mm256_and_si256(whole, _mm256_set1_epi32(0xffff)), _mm256_slli_epi32(whole, 16));
}

// Codes as they are; then [16] pairs of the two scales (and of the two minima), d (and -dmin).
template <const PackKind& K>
void spread_halves(const uint8_t* packed, int64_t n_blocks, uint8_t* out, int64_t ld) {
  constexpr int kWhole = K.offset ? 4 : 2;
  for (int64_t b = 0; b < n_blocks; ++b) {
    uint8_t* to = out + b * ld;
    for (int h = 0; h < 2; ++h) {
      FOVEA_UNROLL
      for (int j = 0; j < 8; ++j) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + j * 64) + h, step_codes(K, packed + K.block_at(b), j, h));
      }
      for (int i = 0; i < kWhole; ++i)
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + 512 + 64 * i) + h, whole_pairs<K>(packed, b, i, h));
      for (int i = 0; i < kWhole / 2; ++i) {
        _mm256_storeu_ps(reinterpret_cast<float*>(to + 512 + 64 * (kWhole + i)) + 8 * h,
                         load_halves(packed + K.group_at(b) + 32 * i, h));
      }
    }
  }
}

template <const PackKind& K, int T, bool kSpread>
void halves_tile(const PanelArgs& a, const Out& out) {
  constexpr int kWhole = K.offset ? 4 : 2;
  __m256 acc[T][2];
  for (int t = 0; t < T; ++t) acc[t][0] = acc[t][1] = _mm256_setzero_ps();
  for (int64_t b = 0; b < a.n_blocks; ++b) {
    const uint8_t* block = a.packed + K.block_at(b);
    const uint8_t* spread = kSpread ? a.spread + b * a.ld_spread : nullptr;
    if constexpr (!kSpread) prefetch_block<K>(block);
    const auto whole = [&](int i, int h) {
      return kSpread ? _mm256_loadu_si256(reinterpret_cast<const __m256i*>(spread + 512 + 64 * i) + h)
                     : whole_pairs<K>(a.packed, b, i, h);
    };
    const auto single = [&](int i, int h) {
      return kSpread ? _mm256_loadu_ps(reinterpret_cast<const float*>(spread + 512 + 64 * (kWhole + i)) + 8 * h)
                     : load_halves(a.packed + K.group_at(b) + 32 * i, h);
    };
    const int8_t* q = a.q + b * 32;
    const BlockMeta* meta = a.meta + b;
    __m256i dot[T][2];
    FOVEA_UNROLL
    for (int s = 0; s < 2; ++s) {
      __m256i sum[T][2];  // 16 columns fit 16 bits: 4 * 127 * 8, where it begins included
      FOVEA_UNROLL
      for (int t = 0; t < T; ++t) {
        const __m256i pairs = _mm256_set1_epi32(meta[t * a.n_blocks].negative_half[s]);
        sum[t][0] = sum[t][1] = K.bits == 3 ? _mm256_slli_epi16(pairs, 2) : _mm256_setzero_si256();
      }
      FOVEA_UNROLL
      for (int j = 4 * s; j < 4 * s + 4; ++j) {
        __m256i c[2];
        FOVEA_UNROLL
        for (int h = 0; h < 2; ++h) {
          c[h] = kSpread ? _mm256_loadu_si256(reinterpret_cast<const __m256i*>(spread + j * 64) + h)
                         : step_codes(K, block, j, h);
        }
        FOVEA_UNROLL
        for (int t = 0; t < T; ++t) {
          int32_t four;
          std::memcpy(&four, q + t * a.ld_q + j * 4, 4);
          const __m256i x = _mm256_set1_epi32(four);
          FOVEA_UNROLL
          for (int h = 0; h < 2; ++h) sum[t][h] = pinned(_mm256_add_epi16(sum[t][h], _mm256_maddubs_epi16(c[h], x)));
        }
      }
      FOVEA_UNROLL
      for (int h = 0; h < 2; ++h) {
        const __m256i by = whole(s, h);
        FOVEA_UNROLL
        for (int t = 0; t < T; ++t) {
          const __m256i fours = _mm256_madd_epi16(sum[t][h], by);
          dot[t][h] = s == 0 ? fours : _mm256_add_epi32(dot[t][h], fours);
        }
      }
    }
    FOVEA_UNROLL
    for (int t = 0; t < T; ++t) {
      const BlockMeta& m = meta[t * a.n_blocks];
      const __m256 x_scale = _mm256_set1_ps(m.scale);
      FOVEA_UNROLL
      for (int h = 0; h < 2; ++h) {
        const __m256 isum = _mm256_cvtepi32_ps(dot[t][h]);
        if constexpr (K.bits == 3) {
          acc[t][h] = _mm256_fmadd_ps(isum, _mm256_mul_ps(single(0, h), x_scale), acc[t][h]);
        } else {  // negative_half has minus the sums, the header minus dmin
          const __m256i least = _mm256_add_epi32(_mm256_madd_epi16(_mm256_set1_epi32(m.negative_half[0]), whole(2, h)),
                                                 _mm256_madd_epi16(_mm256_set1_epi32(m.negative_half[1]), whole(3, h)));
          const __m256 part =
              _mm256_fnmadd_ps(single(1, h), _mm256_cvtepi32_ps(least), _mm256_mul_ps(isum, single(0, h)));
          acc[t][h] = _mm256_fmadd_ps(part, x_scale, acc[t][h]);
        }
      }
    }
  }
  for (int t = 0; t < T; ++t) {
    for (int h = 0; h < 2; ++h) put({acc[t][h]}, out, t, 8 * h);
  }
}

#else

template <const PackKind& K>
void spread_halves(const uint8_t* packed, int64_t n_blocks, uint8_t* out, int64_t ld) {
  spread_panel<K>(packed, n_blocks, out, ld);
}

template <const PackKind& K, int T, bool kSpread>
void halves_tile(const PanelArgs& a, const Out& out) {
  constexpr int kZero = K.zero_log2 < 0 ? 0 : 1 << K.zero_log2;
  for (int t = 0; t < T; ++t) {
    for (int r = 0; r < out.n_rows; ++r) {
      float acc = 0;
      for (int64_t b = 0; b < a.n_blocks; ++b) {
        const uint8_t* block = a.packed + K.block_at(b);
        const uint8_t* header = a.packed + K.group_at(b);
        const BlockMeta& m = a.meta[t * a.n_blocks + b];
        int32_t isum = 0, msum = 0;
        for (int s = 0; s < 2; ++s) {
          int32_t dot = 0, sum = 0;
          for (int i = 16 * s; i < 16 * s + 16; ++i) {
            const int x = a.q[t * a.ld_q + b * 32 + i];
            const int code = kSpread ? a.spread[b * a.ld_spread + i / 4 * 64 + 4 * r + i % 4]
                                     : one_code(K, block, i / 4, 4 * r + i % 4);
            dot += (code - kZero) * x, sum += x;
          }
          isum += static_cast<int8_t>(block[16 * s + r]) * dot;
          if (K.offset) msum += block[16 * (2 + s) + r] * sum;
        }
        const float d = load_half(header + 2 * r), whole = static_cast<float>(isum);
        acc = K.offset ? std::fma(std::fma(load_half(header + 32 + 2 * r), static_cast<float>(msum), d * whole),
                                  m.scale, acc)
                       : std::fma(whole, d * m.scale, acc);
      }
      put(acc, out, t, r);
    }
  }
}

#endif

template <const PackKind& K>
void spread_any(const uint8_t* packed, int64_t n_blocks, uint8_t* out, int64_t ld) {
  if constexpr (K.halves) {
    spread_halves<K>(packed, n_blocks, out, ld);
  } else {
    spread_panel<K>(packed, n_blocks, out, ld);
  }
}

template <const PackKind& K, int T>
void spread_tile(const PanelArgs& a, const Out& out) {
  constexpr const PackKind& kSpread = Spread<K>::kind;
  if constexpr (kSpread.halves) {
    halves_tile<kSpread, T, true>(a, out);
  } else {
    panel_tile<kSpread, T, true>(a, out);
  }
}

template <const PackKind& K, int T>
void direct_tile(const PanelArgs& a, const Out& out) {
  if constexpr (K.halves) {
    halves_tile<K, T, false>(a, out);
  } else {
    panel_tile<K, T, false>(a, out);
  }
}

}  // namespace
}  // namespace fovea::kernels::FOVEA_ISA_NS
