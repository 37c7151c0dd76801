// Rows of floats as whole numbers under one scale, for the kernels that write pages and queries.
#pragma once

#include "fovea/kernels/f32.h"

namespace fovea::kernels::FOVEA_ISA_NS {

// The largest magnitude; NaN if an element is not finite.
inline float largest_of(const float* x, int n) {
  uint32_t most = 0;
  int i = 0;
#if FOVEA_ISA_LEVEL == 2
  __m512i m = _mm512_setzero_si512();
  const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
  for (; i + 16 <= n; i += 16) m = _mm512_max_epu32(m, _mm512_and_si512(_mm512_loadu_si512(x + i), magnitude));
  most = _mm512_reduce_max_epu32(m);
#elif FOVEA_ISA_LEVEL == 1
  __m256i m = _mm256_setzero_si256();
  const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
  for (; i + 8 <= n; i += 8) {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x + i));
    m = _mm256_max_epu32(m, _mm256_and_si256(bits, magnitude));
  }
  __m128i a = _mm_max_epu32(_mm256_castsi256_si128(m), _mm256_extracti128_si256(m, 1));
  a = _mm_max_epu32(a, _mm_shuffle_epi32(a, 0x4e));
  most = static_cast<uint32_t>(_mm_cvtsi128_si32(_mm_max_epu32(a, _mm_shuffle_epi32(a, 0xb1))));
#endif
  for (; i < n; ++i) {
    uint32_t bits;
    std::memcpy(&bits, x + i, 4);
    bits &= 0x7fffffffu;
    most = bits > most ? bits : most;
  }
  if (most >= 0x7f800000u) return __builtin_nanf("");
  float largest;
  std::memcpy(&largest, &most, 4);
  return largest;
}

// codes = x * up, rounded, and cut at +-limit where the rounded `up` leads past it. up = 0: zeros, whatever x is.
inline void round_codes(const float* x, int n, float up, int limit, int32_t* codes) {
  if (!(up > 0.0f)) {
    for (int i = 0; i < n; ++i) codes[i] = 0;
    return;
  }
  const float most = static_cast<float>(limit);
  int i = 0;
#if FOVEA_ISA_LEVEL > 0
  for (; i + F32::kLanes <= n; i += F32::kLanes) {
    const F32 code = max(min(F32::load(x + i) * F32::all(up), F32::all(most)), F32::all(-most));
#if FOVEA_ISA_LEVEL == 2
    _mm512_storeu_si512(codes + i, _mm512_cvtps_epi32(code.v));
#else
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(codes + i), _mm256_cvtps_epi32(code.v));
#endif
  }
#endif
  for (; i < n; ++i) {
    float code = x[i] * up;
    code = code > most ? most : code < -most ? -most : code;
    constexpr float kWhole = 0x1.8p23f;  // adding it rounds to a whole number
    codes[i] = static_cast<int32_t>((code + kWhole) - kWhole);
  }
}

// Pairs of codes as they stand in a dot product of int16: pair i goes to `to` + i * stride. n: even, up to 256.
template <typename Code>
FOVEA_INLINE void spread_pairs(const int32_t* codes, int n, int stride, Code* to) {
  Code narrow[256];
  for (int d = 0; d < n; ++d) narrow[d] = static_cast<Code>(codes[d]);
  for (int d = 0; d < n; d += 2, to += stride) std::memcpy(to, narrow + d, 2 * sizeof(Code));
}

}  // namespace fovea::kernels::FOVEA_ISA_NS
