// F32: as many floats as a register of this instruction set holds. For kernel files only: every
// copy lives in its own namespace.
#pragma once

#include <cstdint>
#include <cstring>

#if FOVEA_ISA_LEVEL > 0
#if defined(__GNUC__) && !defined(__clang__)  // GCC bug 105593: warns of its own intrinsics
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop
#else
#include <immintrin.h>
#endif
#endif

#if defined(FOVEA_FEW_TILES)  // a sanitizer build: unrolled loops take it minutes
#define FOVEA_UNROLL
#elif defined(__clang__)
#define FOVEA_UNROLL _Pragma("unroll")
#else
#define FOVEA_UNROLL _Pragma("GCC unroll 16")
#endif
#define FOVEA_INLINE inline __attribute__((always_inline))

namespace fovea::kernels::FOVEA_ISA_NS {

#if FOVEA_ISA_LEVEL == 2

struct F32 {
  static constexpr int kLanes = 16;
  using Mask = __mmask16;
  __m512 v;
  static FOVEA_INLINE F32 zero() { return {_mm512_setzero_ps()}; }
  static FOVEA_INLINE F32 all(float x) { return {_mm512_set1_ps(x)}; }
  static FOVEA_INLINE F32 load(const float* p) { return {_mm512_loadu_ps(p)}; }
  static FOVEA_INLINE Mask first(int n) { return static_cast<Mask>(_bzhi_u32(0xffff, static_cast<unsigned>(n))); }
  // Lanes past the first n are 0 and their memory is not touched.
  static FOVEA_INLINE F32 load_first(const float* p, int n) { return {_mm512_maskz_loadu_ps(first(n), p)}; }
  FOVEA_INLINE void store(float* p) const { _mm512_storeu_ps(p, v); }
  FOVEA_INLINE void store_first(float* p, int n) const { _mm512_mask_storeu_ps(p, first(n), v); }
};
FOVEA_INLINE F32 operator+(F32 a, F32 b) { return {_mm512_add_ps(a.v, b.v)}; }
FOVEA_INLINE F32 operator-(F32 a, F32 b) { return {_mm512_sub_ps(a.v, b.v)}; }
FOVEA_INLINE F32 operator*(F32 a, F32 b) { return {_mm512_mul_ps(a.v, b.v)}; }
FOVEA_INLINE F32 operator/(F32 a, F32 b) { return {_mm512_div_ps(a.v, b.v)}; }
FOVEA_INLINE F32 mul_add(F32 a, F32 b, F32 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
FOVEA_INLINE F32 neg_mul_add(F32 a, F32 b, F32 c) { return {_mm512_fnmadd_ps(a.v, b.v, c.v)}; }  // c - a b
// b where either is NaN.
FOVEA_INLINE F32 max(F32 a, F32 b) { return {_mm512_max_ps(a.v, b.v)}; }
FOVEA_INLINE F32 min(F32 a, F32 b) { return {_mm512_min_ps(a.v, b.v)}; }
FOVEA_INLINE F32::Mask not_less(F32 a, F32 b) { return _mm512_cmp_ps_mask(a.v, b.v, _CMP_NLT_UQ); }
FOVEA_INLINE F32 keep(F32::Mask m, F32 a) { return {_mm512_maskz_mov_ps(m, a.v)}; }  // else 0
FOVEA_INLINE F32 select(F32::Mask m, F32 a, F32 b) { return {_mm512_mask_mov_ps(b.v, m, a.v)}; }
// Lane i from bit i.
FOVEA_INLINE F32::Mask mask_of(uint32_t bits) { return static_cast<__mmask16>(bits); }
// a * 2^n for whole n. In here n >= -126, so that a normal a stays normal.
FOVEA_INLINE F32 times_power(F32 a, F32 n) { return {_mm512_scalef_ps(a.v, n.v)}; }
FOVEA_INLINE F32 times_power_near(F32 a, F32 n) { return times_power(a, n); }
FOVEA_INLINE void load_pairs(const float* p, F32& even, F32& odd) {
  const __m512 lo = _mm512_loadu_ps(p), hi = _mm512_loadu_ps(p + 16);
  const __m512i at = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  even.v = _mm512_permutex2var_ps(lo, at, hi);
  odd.v = _mm512_permutex2var_ps(lo, _mm512_add_epi32(at, _mm512_set1_epi32(1)), hi);
}
FOVEA_INLINE void store_pairs(F32 even, F32 odd, float* p) {
  const __m512i at = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  _mm512_storeu_ps(p, _mm512_permutex2var_ps(even.v, at, odd.v));
  _mm512_storeu_ps(p + 16, _mm512_permutex2var_ps(even.v, _mm512_add_epi32(at, _mm512_set1_epi32(8)), odd.v));
}

#elif FOVEA_ISA_LEVEL == 1

// An integer sum that stays in its register: g++ gathers the terms of many such additions first, and spills them.
FOVEA_INLINE __m256i pinned(__m256i sum) {
  asm("" : "+x"(sum));
  return sum;
}

struct F32 {
  static constexpr int kLanes = 8;
  using Mask = __m256;
  __m256 v;
  static FOVEA_INLINE F32 zero() { return {_mm256_setzero_ps()}; }
  static FOVEA_INLINE F32 all(float x) { return {_mm256_set1_ps(x)}; }
  static FOVEA_INLINE F32 load(const float* p) { return {_mm256_loadu_ps(p)}; }
  static FOVEA_INLINE __m256i first(int n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
  static FOVEA_INLINE F32 load_first(const float* p, int n) { return {_mm256_maskload_ps(p, first(n))}; }
  FOVEA_INLINE void store(float* p) const { _mm256_storeu_ps(p, v); }
  FOVEA_INLINE void store_first(float* p, int n) const { _mm256_maskstore_ps(p, first(n), v); }
};
FOVEA_INLINE F32 operator+(F32 a, F32 b) { return {_mm256_add_ps(a.v, b.v)}; }
FOVEA_INLINE F32 operator-(F32 a, F32 b) { return {_mm256_sub_ps(a.v, b.v)}; }
FOVEA_INLINE F32 operator*(F32 a, F32 b) { return {_mm256_mul_ps(a.v, b.v)}; }
FOVEA_INLINE F32 operator/(F32 a, F32 b) { return {_mm256_div_ps(a.v, b.v)}; }
FOVEA_INLINE F32 mul_add(F32 a, F32 b, F32 c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
FOVEA_INLINE F32 neg_mul_add(F32 a, F32 b, F32 c) { return {_mm256_fnmadd_ps(a.v, b.v, c.v)}; }
FOVEA_INLINE F32 max(F32 a, F32 b) { return {_mm256_max_ps(a.v, b.v)}; }
FOVEA_INLINE F32 min(F32 a, F32 b) { return {_mm256_min_ps(a.v, b.v)}; }
FOVEA_INLINE F32::Mask not_less(F32 a, F32 b) { return _mm256_cmp_ps(a.v, b.v, _CMP_NLT_UQ); }
FOVEA_INLINE F32 keep(F32::Mask m, F32 a) { return {_mm256_and_ps(m, a.v)}; }
FOVEA_INLINE F32 select(F32::Mask m, F32 a, F32 b) { return {_mm256_blendv_ps(b.v, a.v, m)}; }
FOVEA_INLINE F32::Mask mask_of(uint32_t bits) {
  const __m256i bit = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
  const __m256i hit = _mm256_and_si256(_mm256_set1_epi32(static_cast<int>(bits)), bit);
  return _mm256_castsi256_ps(_mm256_cmpeq_epi32(hit, bit));
}
// a * 2^n, n in [-126, 127].
FOVEA_INLINE F32 times_power_near(F32 a, F32 n) {
  const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n.v), _mm256_set1_epi32(127));
  return {_mm256_mul_ps(a.v, _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23)))};
}
FOVEA_INLINE void load_pairs(const float* p, F32& even, F32& odd) {
  const __m256 lo = _mm256_loadu_ps(p), hi = _mm256_loadu_ps(p + 8);
  const __m256 a = _mm256_permute2f128_ps(lo, hi, 0x20), b = _mm256_permute2f128_ps(lo, hi, 0x31);
  even.v = _mm256_shuffle_ps(a, b, 0x88);
  odd.v = _mm256_shuffle_ps(a, b, 0xdd);
}
FOVEA_INLINE void store_pairs(F32 even, F32 odd, float* p) {
  const __m256 a = _mm256_unpacklo_ps(even.v, odd.v), b = _mm256_unpackhi_ps(even.v, odd.v);
  _mm256_storeu_ps(p, _mm256_permute2f128_ps(a, b, 0x20));
  _mm256_storeu_ps(p + 8, _mm256_permute2f128_ps(a, b, 0x31));
}

#else

struct F32 {
  static constexpr int kLanes = 4;
  typedef float Vector __attribute__((vector_size(16)));
  typedef int32_t Mask __attribute__((vector_size(16)));
  Vector v;
  static FOVEA_INLINE F32 zero() { return {Vector{0, 0, 0, 0}}; }
  static FOVEA_INLINE F32 all(float x) { return {Vector{x, x, x, x}}; }
  static FOVEA_INLINE F32 load(const float* p) {
    F32 x;
    std::memcpy(&x.v, p, sizeof x.v);
    return x;
  }
  static FOVEA_INLINE F32 load_first(const float* p, int n) {
    F32 x = zero();
    for (int i = 0; i < n; ++i) x.v[i] = p[i];
    return x;
  }
  FOVEA_INLINE void store(float* p) const { std::memcpy(p, &v, sizeof v); }
  FOVEA_INLINE void store_first(float* p, int n) const {
    for (int i = 0; i < n; ++i) p[i] = v[i];
  }
};
FOVEA_INLINE F32 operator+(F32 a, F32 b) { return {a.v + b.v}; }
FOVEA_INLINE F32 operator-(F32 a, F32 b) { return {a.v - b.v}; }
FOVEA_INLINE F32 operator*(F32 a, F32 b) { return {a.v * b.v}; }
FOVEA_INLINE F32 operator/(F32 a, F32 b) { return {a.v / b.v}; }
FOVEA_INLINE F32 mul_add(F32 a, F32 b, F32 c) { return {a.v * b.v + c.v}; }
FOVEA_INLINE F32 neg_mul_add(F32 a, F32 b, F32 c) { return {c.v - a.v * b.v}; }
FOVEA_INLINE F32 select(F32::Mask m, F32 a, F32 b) {
  return {
      reinterpret_cast<F32::Vector>((m & reinterpret_cast<F32::Mask>(a.v)) | (~m & reinterpret_cast<F32::Mask>(b.v)))};
}
FOVEA_INLINE F32 max(F32 a, F32 b) { return select(reinterpret_cast<F32::Mask>(a.v > b.v), a, b); }
FOVEA_INLINE F32 min(F32 a, F32 b) { return select(reinterpret_cast<F32::Mask>(a.v < b.v), a, b); }
FOVEA_INLINE F32::Mask not_less(F32 a, F32 b) { return ~reinterpret_cast<F32::Mask>(a.v < b.v); }
FOVEA_INLINE F32 keep(F32::Mask m, F32 a) {
  return {reinterpret_cast<F32::Vector>(m & reinterpret_cast<F32::Mask>(a.v))};
}
FOVEA_INLINE F32::Mask mask_of(uint32_t bits) {
  const F32::Mask bit = {1, 2, 4, 8};
  return (static_cast<int32_t>(bits) & bit) == bit;
}
FOVEA_INLINE F32 times_power_near(F32 a, F32 n) {
  // Below -127 (which keep() drops later) or NaN, the conversion to int would be undefined.
  const F32::Mask exponent = __builtin_convertvector(max(n, F32::all(-127)).v, F32::Mask) + 127;
  return {a.v * reinterpret_cast<F32::Vector>(exponent << 23)};
}
FOVEA_INLINE void load_pairs(const float* p, F32& even, F32& odd) {
  even.v = F32::Vector{p[0], p[2], p[4], p[6]};
  odd.v = F32::Vector{p[1], p[3], p[5], p[7]};
}
FOVEA_INLINE void store_pairs(F32 even, F32 odd, float* p) {
  for (int i = 0; i < 4; ++i) {
    p[2 * i] = even.v[i];
    p[2 * i + 1] = odd.v[i];
  }
}

#endif

#if FOVEA_ISA_LEVEL < 2
// n in [-126, 128]: in two steps, since 2^128 is no float.
FOVEA_INLINE F32 times_power(F32 a, F32 n) {
  const F32 half = max(min(n, F32::all(64)), F32::all(-64));
  return times_power_near(times_power_near(a, half), n - half);
}
#endif

// A tree over the lanes: always the same order.
FOVEA_INLINE float sum(F32 x) {
  float lane[F32::kLanes];
  x.store(lane);
  FOVEA_UNROLL
  for (int half = F32::kLanes / 2; half > 0; half /= 2) {
    FOVEA_UNROLL
    for (int i = 0; i < half; ++i) lane[i] += lane[i + half];
  }
  return lane[0];
}
FOVEA_INLINE float max_lane(F32 x) {  // of no NaN; with one, any lane
#if FOVEA_ISA_LEVEL == 2
  const __m256 a = _mm256_max_ps(_mm512_castps512_ps256(x.v), _mm512_extractf32x8_ps(x.v, 1));
#elif FOVEA_ISA_LEVEL == 1
  const __m256 a = x.v;
#endif
#if FOVEA_ISA_LEVEL > 0
  __m128 b = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  b = _mm_max_ps(b, _mm_movehl_ps(b, b));
  return _mm_cvtss_f32(_mm_max_ss(b, _mm_movehdup_ps(b)));
#else
  float best = x.v[0];
  for (int i = 1; i < F32::kLanes; ++i) best = best > x.v[i] ? best : x.v[i];
  return best;
#endif
}

// x rounded to a whole number, for |x| < 2^22.
FOVEA_INLINE F32 round_near(F32 x) {
  const F32 big = F32::all(0x1.8p23f);
  return (x + big) - big;
}

// e^x, relative error below 1.5e-7: x = n ln 2 + r, and e^r = 1 + r + r^2 p(r) with p fitted (Remez) to
// 2e-9 on |r| <= ln(2) / 2. 0 where e^x would be no normal float; NaN stays NaN.
FOVEA_INLINE F32 exp(F32 x) {
  const F32 normal_from = F32::all(-87.336544f);
  const F32 y = min(F32::all(89.0f), max(normal_from, x));  // NaN, as the second operand, goes through
  const F32 n = round_near(y * F32::all(1.44269504f));
  const F32 r = neg_mul_add(n, F32::all(-2.12194440e-4f), neg_mul_add(n, F32::all(0.693359375f), y));
  F32 p = F32::all(0.00138145401768f);
  p = mul_add(p, r, F32::all(0.00836874510894f));
  p = mul_add(p, r, F32::all(0.0416683907835f));
  p = mul_add(p, r, F32::all(0.16666520399f));
  p = mul_add(p, r, F32::all(0.499999934321f));
  p = mul_add(p, r, F32::all(1.0f));
  p = mul_add(p, r, F32::all(1.0f));
  return keep(not_less(x, normal_from), times_power(p, n));
}

// Relative error below 3e-7 everywhere: x + x^3 p(x^2) near 0 (S. Moshier, Cephes), 1 - 2 / (e^2x + 1) beyond. NaN
// stays.
FOVEA_INLINE F32 tanh(F32 x) {
  const F32 z = x * x, one = F32::all(1.0f);
  F32 p = F32::all(-5.70498872745e-3f);
  p = mul_add(p, z, F32::all(2.06390887954e-2f));
  p = mul_add(p, z, F32::all(-5.37397155531e-2f));
  p = mul_add(p, z, F32::all(1.33314422036e-1f));
  p = mul_add(p, z, F32::all(-3.33332819422e-1f));
  const F32 far = one - F32::all(2.0f) / (exp(x + x) + one);
  return select(not_less(max(x, F32::zero() - x), F32::all(0.625f)), far, mul_add(p * z, x, x));
}

// 2^x for x <= 0 (or NaN), 0 below -126: x = n + f, and 2^f = 1 + f p(f).
FOVEA_INLINE F32 exp2_nonpositive(F32 x) {
  const F32 n = round_near(x);
  const F32 f = x - n;
  F32 p = F32::all(0.00015469864696f);
  p = mul_add(p, f, F32::all(0.00134101542879f));
  p = mul_add(p, f, F32::all(0.00961803038813f));
  p = mul_add(p, f, F32::all(0.0555029685861f));
  p = mul_add(p, f, F32::all(0.240226510865f));
  p = mul_add(p, f, F32::all(0.693147225665f));
  p = mul_add(p, f, F32::all(1.0f));
  return keep(not_less(x, F32::all(-126.0f)), times_power_near(p, n));
}

}  // namespace fovea::kernels::FOVEA_ISA_NS
