// Dot products of int16 codes, which stand in pairs, and their sums. Exact while a sum fits 32 bits.
#pragma once

#include "fovea/kernels/f32.h"

namespace fovea::kernels::FOVEA_ISA_NS {

FOVEA_INLINE int32_t both_of(const int16_t* pair) {
  int32_t both;
  __builtin_memcpy(&both, pair, sizeof both);
  return both;
}

// Pairs: as many pairs of codes as F32 has lanes, widened to int16. Sums: as many sums of products of pairs.
#if FOVEA_ISA_LEVEL == 2
struct Pairs {
  __m512i v;
  static FOVEA_INLINE Pairs load(const int16_t* p) { return {_mm512_loadu_si512(p)}; }
  static FOVEA_INLINE Pairs load(const int8_t* p) {
    return {_mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
  }
  static FOVEA_INLINE Pairs all(const int16_t* pair) { return {_mm512_set1_epi32(both_of(pair))}; }
};
struct Sums {
  __m512i v;
  FOVEA_INLINE Sums operator+(Sums b) const { return {_mm512_add_epi32(v, b.v)}; }
  static FOVEA_INLINE Sums zero() { return {_mm512_setzero_si512()}; }
  FOVEA_INLINE F32 floats() const { return {_mm512_cvtepi32_ps(v)}; }
};
FOVEA_INLINE Sums dot_add(Pairs a, Pairs b, Sums sum) {
  // Not the intrinsic: in the loop over columns GCC 12 moves its sums to the stack and back (160 for 240 GOP/s).
  asm("vpdpwssd %2, %1, %0" : "+v"(sum.v) : "v"(a.v), "v"(b.v));
  return sum;
}
// a, then b, rounded to codes; NaN gives any code.
FOVEA_INLINE void store_codes(F32 a, F32 b, int16_t* to) {
  const __m512i both = _mm512_packs_epi32(_mm512_cvtps_epi32(a.v), _mm512_cvtps_epi32(b.v));  // in lanes of 128 bits
  _mm512_storeu_si512(to, _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7), both));
}
#elif FOVEA_ISA_LEVEL == 1
struct Pairs {
  __m256i v;
  static FOVEA_INLINE Pairs load(const int16_t* p) { return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))}; }
  static FOVEA_INLINE Pairs load(const int8_t* p) {
    return {_mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
  }
  static FOVEA_INLINE Pairs all(const int16_t* pair) { return {_mm256_set1_epi32(both_of(pair))}; }
};
struct Sums {
  __m256i v;
  FOVEA_INLINE Sums operator+(Sums b) const { return {_mm256_add_epi32(v, b.v)}; }
  static FOVEA_INLINE Sums zero() { return {_mm256_setzero_si256()}; }
  FOVEA_INLINE F32 floats() const { return {_mm256_cvtepi32_ps(v)}; }
};
FOVEA_INLINE Sums dot_add(Pairs a, Pairs b, Sums sum) {
  return {pinned(_mm256_add_epi32(sum.v, _mm256_madd_epi16(a.v, b.v)))};
}
FOVEA_INLINE void store_codes(F32 a, F32 b, int16_t* to) {
  const __m256i both = _mm256_packs_epi32(_mm256_cvtps_epi32(a.v), _mm256_cvtps_epi32(b.v));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm256_permute4x64_epi64(both, 0xd8));
}
#else
struct Pairs {
  int16_t v[2 * F32::kLanes];
  template <typename Code>
  static FOVEA_INLINE Pairs load(const Code* p) {
    Pairs pairs;
    for (int i = 0; i < 2 * F32::kLanes; ++i) pairs.v[i] = static_cast<int16_t>(+p[i]);
    return pairs;
  }
  static FOVEA_INLINE Pairs all(const int16_t* pair) {
    Pairs pairs;
    for (int i = 0; i < F32::kLanes; ++i) __builtin_memcpy(pairs.v + 2 * i, pair, 2 * sizeof *pair);
    return pairs;
  }
};
struct Sums {
  uint32_t v[F32::kLanes];  // wraps where a NaN gave a code out of range
  static FOVEA_INLINE Sums zero() { return {}; }
  FOVEA_INLINE F32 floats() const {
    float f[F32::kLanes];
    for (int i = 0; i < F32::kLanes; ++i) f[i] = static_cast<float>(static_cast<int32_t>(v[i]));
    return F32::load(f);
  }
};
FOVEA_INLINE Sums dot_add(Pairs a, Pairs b, Sums sum) {
  for (int i = 0; i < F32::kLanes; ++i) {
    sum.v[i] += static_cast<uint32_t>(a.v[2 * i] * b.v[2 * i]) + static_cast<uint32_t>(a.v[2 * i + 1] * b.v[2 * i + 1]);
  }
  return sum;
}
FOVEA_INLINE void store_codes(F32 a, F32 b, int16_t* to) {
  float f[2 * F32::kLanes];
  round_near(max(a, F32::all(-32768.0f))).store(f);  // NaN becomes the second
  round_near(max(b, F32::all(-32768.0f))).store(f + F32::kLanes);
  for (int i = 0; i < 2 * F32::kLanes; ++i) to[i] = static_cast<int16_t>(f[i]);
}
#endif

}  // namespace fovea::kernels::FOVEA_ISA_NS
