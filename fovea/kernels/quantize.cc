// Activations to int8 per block of 32 columns: q = round(r) with r = x * 127 / max|x|, halves to even. The scale is
// then fitted to the codes by least squares: max|x| / 127 * sum(r q) / sum(q q). It takes the part of the rounding
// error that points along x itself out of every product.
#include <cmath>
#include <cstring>

#include "fovea/kernels/f32.h"
#include "fovea/kernels/matmul.h"
#include "fovea/kernels/pack.h"

namespace fovea::kernels {
namespace FOVEA_ISA_NS {
namespace {

constexpr uint32_t kInfinityBits = 0x7f800000u;

constexpr float kLeast = 1e-36f;  // 127 / x must stay finite; what is smaller counts as 0

// The factor of a block whose largest magnitude has these bits; 0 makes every q 0. NaN or Inf must reach the
// result, so they make the scale NaN.
struct Factor {
  float inverse, scale;
  explicit Factor(uint32_t most_bits) {
    float most;
    std::memcpy(&most, &most_bits, 4);
    const bool odd = most_bits >= kInfinityBits;
    inverse = most > kLeast && !odd ? 127.0f / most : 0.0f;
    scale = odd ? NAN : most * (1.0f / 127.0f);
  }
};

#if FOVEA_ISA_LEVEL > 0

inline uint32_t largest(__m128i a) {
  a = _mm_max_epu32(a, _mm_shuffle_epi32(a, 0x4e));
  return static_cast<uint32_t>(_mm_cvtsi128_si32(_mm_max_epu32(a, _mm_shuffle_epi32(a, 0xb1))));
}

// sum(a) / sum(b); 1 if b is zeros. F32's sum() would go through memory twice.
inline float ratio(__m256 a, __m256 b) {
  const __m256 pairs = _mm256_hadd_ps(a, b);
  const __m128 fours = _mm_add_ps(_mm256_castps256_ps128(pairs), _mm256_extractf128_ps(pairs, 1));
  const __m128 both = _mm_hadd_ps(fours, fours);
  const float low = _mm_cvtss_f32(_mm_movehdup_ps(both));
  return low > 0 ? _mm_cvtss_f32(both) / low : 1.0f;
}

#endif

#if FOVEA_ISA_LEVEL == 2

// Sums of the first and the last 16 of 32 codes.
inline void half_sums(__m256i q, int32_t* sums) {
  const __m256i pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), q);
  const __m256i fours = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
  const __m128i eights = _mm_hadd_epi32(_mm256_castsi256_si128(fours), _mm256_extracti128_si256(fours, 1));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(sums), _mm_hadd_epi32(eights, eights));
}

#endif

#if FOVEA_ISA_LEVEL == 1

// The numbers of BlockMeta that say what a zero point takes away: the whole block's first, then its halves'.
inline void negative_pairs(__m256i q, int32_t* negative) {
  __m256i pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), q);
  pairs = _mm256_add_epi16(pairs, _mm256_shuffle_epi32(pairs, 0x4e));
  pairs = _mm256_add_epi16(pairs, _mm256_shuffle_epi32(pairs, 0xb1));
  pairs = _mm256_sub_epi16(_mm256_setzero_si256(), pairs);
  const __m128i first = _mm256_castsi256_si128(pairs), second = _mm256_extracti128_si256(pairs, 1);
  negative[0] = _mm_cvtsi128_si32(_mm_add_epi16(first, second));
  negative[1] = _mm_cvtsi128_si32(first), negative[2] = _mm_cvtsi128_si32(second);
}

#endif

void quantize_block(const float* x, int8_t* q, BlockMeta& meta) {
#if FOVEA_ISA_LEVEL != 1
  int32_t sums[2] = {0, 0};
#endif
#if FOVEA_ISA_LEVEL == 2
  const __m512 a = _mm512_loadu_ps(x), b = _mm512_loadu_ps(x + 16);
  const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
  const __m512i m = _mm512_max_epu32(_mm512_and_si512(_mm512_castps_si512(a), magnitude),
                                     _mm512_and_si512(_mm512_castps_si512(b), magnitude));
  const __m256i n = _mm256_max_epu32(_mm512_castsi512_si256(m), _mm512_extracti64x4_epi64(m, 1));
  const Factor by(largest(_mm_max_epu32(_mm256_castsi256_si128(n), _mm256_extracti128_si256(n, 1))));
  // The lanes of a block with Inf or NaN are dropped, not multiplied: Inf * 0 is NaN.
  const auto kept = static_cast<__mmask16>(by.inverse > 0 ? 0xffff : 0);
  const __m512 inverse = _mm512_set1_ps(by.inverse);
  const __m512 r0 = _mm512_maskz_mul_ps(kept, a, inverse), r1 = _mm512_maskz_mul_ps(kept, b, inverse);
  const __m512i low = _mm512_cvtps_epi32(r0), high = _mm512_cvtps_epi32(r1);
  const __m512 q0 = _mm512_cvtepi32_ps(low), q1 = _mm512_cvtepi32_ps(high);
  const __m512 rq = _mm512_fmadd_ps(r0, q0, _mm512_mul_ps(r1, q1)), qq = _mm512_fmadd_ps(q0, q0, _mm512_mul_ps(q1, q1));
  const float fitted = by.scale * ratio(_mm256_add_ps(_mm512_castps512_ps256(rq), _mm512_extractf32x8_ps(rq, 1)),
                                        _mm256_add_ps(_mm512_castps512_ps256(qq), _mm512_extractf32x8_ps(qq, 1)));
  const __m256i codes = _mm256_setr_m128i(_mm512_cvtepi32_epi8(low), _mm512_cvtepi32_epi8(high));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(q), codes);
  half_sums(codes, sums);
#elif FOVEA_ISA_LEVEL == 1
  const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
  __m256i m = _mm256_setzero_si256();
  for (int i = 0; i < 32; i += 8)
    m = _mm256_max_epu32(m, _mm256_and_si256(_mm256_castps_si256(_mm256_loadu_ps(x + i)), magnitude));
  const Factor by(largest(_mm_max_epu32(_mm256_castsi256_si128(m), _mm256_extracti128_si256(m, 1))));
  __m256i codes = _mm256_setzero_si256();
  float fitted = by.scale;
  if (by.inverse > 0) {
    const __m256 inverse = _mm256_set1_ps(by.inverse);
    __m256i whole[4];
    F32 rq_lanes = F32::zero(), qq_lanes = F32::zero();
    for (int i = 0; i < 4; ++i) {
      const F32 r = {_mm256_mul_ps(_mm256_loadu_ps(x + 8 * i), inverse)};
      whole[i] = _mm256_cvtps_epi32(r.v);
      const F32 code = {_mm256_cvtepi32_ps(whole[i])};
      rq_lanes = mul_add(r, code, rq_lanes), qq_lanes = mul_add(code, code, qq_lanes);
    }
    fitted = by.scale * ratio(rq_lanes.v, qq_lanes.v);
    // Packing works within 128-bit halves, so the groups of four come out as 0 2 4 6 1 3 5 7.
    const __m256i shorts0 = _mm256_packs_epi32(whole[0], whole[1]), shorts1 = _mm256_packs_epi32(whole[2], whole[3]);
    codes =
        _mm256_permutevar8x32_epi32(_mm256_packs_epi16(shorts0, shorts1), _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
  }
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(q), codes);
  int32_t negative[3];
  negative_pairs(codes, negative);
  const int32_t negative_sum = static_cast<int16_t>(negative[0] & 0xffff) + (negative[0] >> 16);
  meta = {fitted, fitted * static_cast<float>(-negative_sum), negative[0], {negative[1], negative[2]}};
#else
  uint32_t most = 0;
  for (int i = 0; i < 32; ++i) {
    uint32_t bits;
    std::memcpy(&bits, x + i, 4);
    bits &= 0x7fffffffu;
    most = bits > most ? bits : most;
  }
  const Factor by(most);
  float rq = 0, qq = 0;
  for (int i = 0; i < 32; ++i) {
    const float r = (by.inverse > 0 ? x[i] : 0.0f) * by.inverse, shifted = r + 0x1.8p23f;  // rounds to nearest even
    int32_t bits;
    std::memcpy(&bits, &shifted, 4);
    q[i] = static_cast<int8_t>(bits - 0x4B400000);
    sums[i / 16] += q[i];
    rq += r * static_cast<float>(q[i]), qq += static_cast<float>(q[i] * q[i]);
  }
  const float fitted = qq > 0 ? by.scale * (rq / qq) : by.scale;
#endif
#if FOVEA_ISA_LEVEL != 1
  // The analyzer misses that half_sums stores both.  NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult)
  const int32_t sum = sums[0] + sums[1];
  meta = {fitted, fitted * static_cast<float>(sum), -128 * sum, {-128 * sums[0], -128 * sums[1]}};
#endif
}

void quantize_activations(const float* x, int64_t ld_x, int64_t n_tokens, int64_t cols, int64_t token_begin,
                          int64_t token_end, void* out) {
  const int64_t ld_q = (cols + 63) / 64 * 64, n_blocks = cols / 32;
  auto* q = static_cast<int8_t*>(out);
  auto* meta = reinterpret_cast<BlockMeta*>(q + n_tokens * ld_q);
  for (int64_t t = token_begin; t < token_end; ++t) {
    for (int64_t b = 0; b < n_blocks; ++b)
      quantize_block(x + t * ld_x + b * 32, q + t * ld_q + b * 32, meta[t * n_blocks + b]);
  }
}

void quantize_rest(const float* x, int64_t ld_x, int64_t n_tokens, int64_t cols, int64_t token_begin, int64_t token_end,
                   const void* first, void* out) {
  const int64_t ld_q = (cols + 63) / 64 * 64, n_blocks = cols / 32;
  const auto* q = static_cast<const int8_t*>(first);
  const auto* meta = reinterpret_cast<const BlockMeta*>(q + n_tokens * ld_q);
  auto* rest_q = static_cast<int8_t*>(out);
  auto* rest_meta = reinterpret_cast<BlockMeta*>(rest_q + n_tokens * ld_q);
  for (int64_t t = token_begin; t < token_end; ++t) {
    for (int64_t b = 0; b < n_blocks; ++b) {
      const float scale = meta[t * n_blocks + b].scale;
      float rest[32];
      for (int i = 0; i < 32; ++i)
        rest[i] = x[t * ld_x + b * 32 + i] - scale * static_cast<float>(q[t * ld_q + b * 32 + i]);
      quantize_block(rest, rest_q + t * ld_q + b * 32, rest_meta[t * n_blocks + b]);
    }
  }
}

}  // namespace
FOVEA_KERNEL(quantize_activations)
FOVEA_KERNEL(quantize_rest)
}  // namespace FOVEA_ISA_NS
}  // namespace fovea::kernels
