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

#if FOVEA_ISA_LEVEL == 2

// Four blocks side by side: lane i of 128 bits belongs to block i in everything that is one number per block, and the
// horizontal sums of four cost little more than those of one. Every sum has the order of quantize_block's.
struct Floats4 {
  __m512 v[8];
};

// 128-bit lanes 0 and 1 of a, then of b; and 2 and 3.
FOVEA_INLINE __m512 lower(__m512 a, __m512 b) { return _mm512_shuffle_f32x4(a, b, 0x44); }
FOVEA_INLINE __m512 upper(__m512 a, __m512 b) { return _mm512_shuffle_f32x4(a, b, 0xee); }
// Lanes 0 and 2 of a, then of b; and 1 and 3.
FOVEA_INLINE __m512 even(__m512 a, __m512 b) { return _mm512_shuffle_f32x4(a, b, 0x88); }
FOVEA_INLINE __m512 odd(__m512 a, __m512 b) { return _mm512_shuffle_f32x4(a, b, 0xdd); }

FOVEA_INLINE __m512 sums_of_four(const __m512* x) {
  __m512 a = _mm512_add_ps(lower(x[0], x[1]), upper(x[0], x[1]));
  __m512 b = _mm512_add_ps(lower(x[2], x[3]), upper(x[2], x[3]));
  a = _mm512_add_ps(a, _mm512_permute_ps(a, 0xb1)), b = _mm512_add_ps(b, _mm512_permute_ps(b, 0xb1));
  const __m512 c = _mm512_add_ps(even(a, b), odd(a, b));
  return _mm512_add_ps(c, _mm512_permute_ps(c, 0x4e));
}

FOVEA_INLINE __m512i largest_of_four(const Floats4& x) {
  const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
  __m512 m[4];
  FOVEA_UNROLL
  for (int i = 0; i < 4; ++i) {
    m[i] = _mm512_castsi512_ps(_mm512_max_epu32(_mm512_and_si512(_mm512_castps_si512(x.v[2 * i]), magnitude),
                                                _mm512_and_si512(_mm512_castps_si512(x.v[2 * i + 1]), magnitude)));
  }
  const auto most = [](__m512 a, __m512 b) {
    return _mm512_castsi512_ps(_mm512_max_epu32(_mm512_castps_si512(a), _mm512_castps_si512(b)));
  };
  const __m512 a = most(lower(m[0], m[1]), upper(m[0], m[1])), b = most(lower(m[2], m[3]), upper(m[2], m[3]));
  __m512 c = most(even(a, b), odd(a, b));
  c = most(c, _mm512_permute_ps(c, 0x4e));
  return _mm512_castps_si512(most(c, _mm512_permute_ps(c, 0xb1)));
}

// 64 codes of two blocks, in order.
FOVEA_INLINE __m512i narrow(const __m512i* whole) {
  const __m512i bytes =
      _mm512_packs_epi16(_mm512_packs_epi32(whole[0], whole[1]), _mm512_packs_epi32(whole[2], whole[3]));
  return _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), bytes);
}

// The sum of 16 codes in each 128-bit lane.
FOVEA_INLINE __m512i sums_of_codes(__m512i codes) {
  __m512i s = _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_set1_epi8(1), codes);
  s = _mm512_add_epi32(s, _mm512_shuffle_epi32(s, _MM_PERM_BADC));
  return _mm512_add_epi32(s, _mm512_shuffle_epi32(s, _MM_PERM_CDAB));
}

// False, with nothing written, if a block is zeros or not finite: those are for quantize_block.
FOVEA_INLINE bool quantize_four(const Floats4& x, int8_t* q, BlockMeta* meta) {
  const __m512i bits = largest_of_four(x);
  const __m512 most = _mm512_castsi512_ps(bits);
  if ((_mm512_cmp_ps_mask(most, _mm512_set1_ps(kLeast), _CMP_GT_OQ) &
       _mm512_cmplt_epu32_mask(bits, _mm512_set1_epi32(static_cast<int>(kInfinityBits)))) != 0xffff)
    return false;
  const __m512 inverse = _mm512_div_ps(_mm512_set1_ps(127.0f), most);
  const __m512 by[4] = {_mm512_shuffle_f32x4(inverse, inverse, 0x00), _mm512_shuffle_f32x4(inverse, inverse, 0x55),
                        _mm512_shuffle_f32x4(inverse, inverse, 0xaa), _mm512_shuffle_f32x4(inverse, inverse, 0xff)};
  __m512i whole[8];
  __m512 rq[4], qq[4];
  FOVEA_UNROLL
  for (int i = 0; i < 4; ++i) {
    const __m512 r0 = _mm512_mul_ps(x.v[2 * i], by[i]), r1 = _mm512_mul_ps(x.v[2 * i + 1], by[i]);
    whole[2 * i] = _mm512_cvtps_epi32(r0), whole[2 * i + 1] = _mm512_cvtps_epi32(r1);
    const __m512 q0 = _mm512_cvtepi32_ps(whole[2 * i]), q1 = _mm512_cvtepi32_ps(whole[2 * i + 1]);
    rq[i] = _mm512_fmadd_ps(r0, q0, _mm512_mul_ps(r1, q1)), qq[i] = _mm512_fmadd_ps(q0, q0, _mm512_mul_ps(q1, q1));
  }
  const __m512 fitted = _mm512_mul_ps(_mm512_mul_ps(most, _mm512_set1_ps(1.0f / 127.0f)),
                                      _mm512_div_ps(sums_of_four(rq), sums_of_four(qq)));
  const __m512i codes[2] = {narrow(whole), narrow(whole + 4)};
  _mm512_storeu_si512(q, codes[0]);
  _mm512_storeu_si512(q + 64, codes[1]);
  const __m512i low = sums_of_codes(codes[0]), high = sums_of_codes(codes[1]);
  const __m512i first = _mm512_shuffle_i32x4(low, high, 0x88), second = _mm512_shuffle_i32x4(low, high, 0xdd);
  const __m512i sum = _mm512_add_epi32(first, second), zero = _mm512_setzero_si512();
  const auto negative = [zero](__m512i n) { return _mm512_sub_epi32(zero, _mm512_slli_epi32(n, 7)); };
  // The first four words of each block's numbers in its lane; the fifth comes from `last`.
  __m512i words = _mm512_castps_si512(fitted);
  words = _mm512_mask_mov_epi32(words, 0x2222, _mm512_castps_si512(_mm512_mul_ps(fitted, _mm512_cvtepi32_ps(sum))));
  words = _mm512_mask_mov_epi32(words, 0x4444, negative(sum));
  words = _mm512_mask_mov_epi32(words, 0x8888, negative(first));
  const __m512i last = negative(second);
  static_assert(sizeof(BlockMeta) == 20);
  auto* to = reinterpret_cast<char*>(meta);
  const __m512i order = _mm512_setr_epi32(0, 1, 2, 3, 16, 4, 5, 6, 7, 20, 8, 9, 10, 11, 24, 12);
  _mm512_storeu_si512(to, _mm512_permutex2var_epi32(words, order, last));
  const __m512i end =
      _mm512_permutex2var_epi32(words, _mm512_setr_epi32(13, 14, 15, 28, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0), last);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to + 64), _mm512_castsi512_si128(end));
  return true;
}

#endif

#if FOVEA_ISA_LEVEL == 2
void quantize_at_four(const float* x, int8_t* q, BlockMeta* meta) {
  Floats4 four;
  FOVEA_UNROLL
  for (int i = 0; i < 8; ++i) four.v[i] = _mm512_loadu_ps(x + 16 * i);
  if (quantize_four(four, q, meta)) return;
  for (int i = 0; i < 4; ++i) quantize_block(x + i * 32, q + i * 32, meta[i]);
}
#endif

// Blocks [begin, end) of one token.
void quantize_blocks(const float* x, int64_t begin, int64_t end, int8_t* q, BlockMeta* meta) {
  int64_t b = begin;
#if FOVEA_ISA_LEVEL == 2
  for (; b + 4 <= end; b += 4) quantize_at_four(x + b * 32, q + b * 32, meta + b);
  if (b < end && end - begin >= 4) {  // the last four once more, in part: the same bits
    b = end - 4;
    return quantize_at_four(x + b * 32, q + b * 32, meta + b);
  }
#endif
  for (; b < end; ++b) quantize_block(x + b * 32, q + b * 32, meta[b]);
}

void quantize_columns(const float* x, int64_t ld_x, int64_t n_tokens, int64_t cols, int64_t token_begin,
                      int64_t token_end, int64_t col_begin, int64_t col_end, void* out) {
  const int64_t ld_q = (cols + 63) / 64 * 64, n_blocks = cols / 32;
  auto* q = static_cast<int8_t*>(out);
  auto* meta = reinterpret_cast<BlockMeta*>(q + n_tokens * ld_q);
  for (int64_t t = token_begin; t < token_end; ++t)
    quantize_blocks(x + t * ld_x, col_begin / 32, col_end / 32, q + t * ld_q, meta + t * n_blocks);
}

void quantize_activations(const float* x, int64_t ld_x, int64_t n_tokens, int64_t cols, int64_t token_begin,
                          int64_t token_end, void* out) {
  quantize_columns(x, ld_x, n_tokens, cols, token_begin, token_end, 0, cols, out);
}

// What `scale` times the codes leaves of a block.
FOVEA_INLINE void rest_of_block(const float* x, const int8_t* q, float scale, float* rest) {
  const F32 by = F32::all(scale);
  for (int i = 0; i < 32; i += F32::kLanes) {
#if FOVEA_ISA_LEVEL == 2
    const F32 code = {
        _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(q + i))))};
#elif FOVEA_ISA_LEVEL == 1
    const F32 code = {
        _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(q + i))))};
#else
    float lanes[F32::kLanes];
    for (int lane = 0; lane < F32::kLanes; ++lane) lanes[lane] = static_cast<float>(q[i + lane]);
    const F32 code = F32::load(lanes);
#endif
    (F32::load(x + i) - by * code).store(rest + i);
  }
}

void quantize_rest(const float* x, int64_t ld_x, int64_t n_tokens, int64_t cols, int64_t token_begin, int64_t token_end,
                   const void* first, void* out) {
  const int64_t ld_q = (cols + 63) / 64 * 64, n_blocks = cols / 32;
  const auto* q = static_cast<const int8_t*>(first);
  const auto* meta = reinterpret_cast<const BlockMeta*>(q + n_tokens * ld_q);
  auto* rest_q = static_cast<int8_t*>(out);
  auto* rest_meta = reinterpret_cast<BlockMeta*>(rest_q + n_tokens * ld_q);
  constexpr int64_t kBlocks = 4;  // at once
  for (int64_t t = token_begin; t < token_end; ++t) {
    for (int64_t b = 0; b < n_blocks; b += kBlocks) {
      const int64_t n = n_blocks - b < kBlocks ? n_blocks - b : kBlocks;
      float rest[32 * kBlocks];
      for (int64_t i = b; i < b + n; ++i)
        rest_of_block(x + t * ld_x + i * 32, q + t * ld_q + i * 32, meta[t * n_blocks + i].scale, rest + (i - b) * 32);
      quantize_blocks(rest, 0, n, rest_q + t * ld_q + b * 32, rest_meta + t * n_blocks + b);
    }
  }
}

}  // namespace
FOVEA_KERNEL(quantize_activations)
FOVEA_KERNEL(quantize_columns)
FOVEA_KERNEL(quantize_rest)
}  // namespace FOVEA_ISA_NS
}  // namespace fovea::kernels
