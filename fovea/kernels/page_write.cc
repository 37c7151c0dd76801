// Keys and values into a page: codes are made in registers, then spread over the page's lanes.
#include "fovea/kernels/codes.h"
#include "fovea/kernels/page_layout.h"

namespace fovea::kernels {
namespace FOVEA_ISA_NS {
namespace {

constexpr int kMostColumns = 256;

// The least bfloat16 that is no less than x / most: no code exceeds `most`. NaN if x is not finite.
uint16_t scale_up(float x, int most) {
  if (!(x - x == 0.0f)) return 0x7fc0;
  const float scale = x / static_cast<float>(most);
  if (scale < __FLT_MIN__) return 0;
  uint32_t bits;
  std::memcpy(&bits, &scale, 4);
  return static_cast<uint16_t>((bits + 0xffff) >> 16);
}

// codes[0, n) of x[0, n) under one scale.
void make_codes(const float* x, int n, int most, uint16_t& scale, int32_t* codes) {
  scale = scale_up(largest_of(x, n), most);
  const float step = from_bf16(scale);
  round_codes(x, n, step > 0.0f ? 1.0f / step : 0.0f, most, codes);
}

// Each column of a value stands beside its neighbour's, which stays.
void spread_value(const int32_t* codes, int head_dim, bool odd, int16_t* to) {
  int d = 0;
#if FOVEA_ISA_LEVEL == 2
  const __mmask32 mine = odd ? 0xaaaaaaaau : 0x55555555u;
  for (; d + 16 <= head_dim; d += 16) {
    const __m512i code = _mm512_loadu_si512(codes + d), old = _mm512_loadu_si512(to - odd + 2 * d);
    _mm512_storeu_si512(to - odd + 2 * d, _mm512_mask_mov_epi16(old, mine, odd ? _mm512_slli_epi32(code, 16) : code));
  }
#elif FOVEA_ISA_LEVEL == 1
  for (; d + 8 <= head_dim; d += 8) {
    auto* at = reinterpret_cast<__m256i*>(to - odd + 2 * d);
    const __m256i code = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes + d)), old = _mm256_loadu_si256(at);
    _mm256_storeu_si256(
        at, odd ? _mm256_blend_epi16(old, _mm256_slli_epi32(code, 16), 0xaa) : _mm256_blend_epi16(old, code, 0x55));
  }
#endif
  for (; d < head_dim; ++d) to[2 * d] = static_cast<int16_t>(codes[d]);
}
void spread_value(const int32_t* codes, int head_dim, bool, int8_t* to) {
  for (int d = 0; d < head_dim; ++d) to[2 * d] = static_cast<int8_t>(codes[d]);
}

template <typename Codes>
void write_key(void* keys, int k_dim, int slot, const float* k) {
  const KeySlot<Codes> to(keys, k_dim, slot);
  alignas(64) int32_t codes[kMostColumns];
  alignas(64) float mixed[Codes::kMixed ? kMostColumns : 1];
  if constexpr (Codes::kMixed) {
    mix_columns(k, k_dim, /*divide=*/true, mixed);
    k = mixed;
  }
  for (int begin = 0; begin < k_dim; begin += Codes::kGroupColumns) {
    const int n = k_dim - begin < Codes::kGroupColumns ? k_dim - begin : Codes::kGroupColumns;
    make_codes(k + begin, n, Codes::kKeys, to.scale(begin), codes + begin);
  }
  spread_pairs(codes, k_dim, 2 * kPageKeys, to.codes);
}
template <typename Codes>
void write_value(void* values, int v_dim, int slot, const float* v) {
  const ValueSlot<Codes> to(values, v_dim, slot);
  alignas(64) int32_t codes[kMostColumns];
  make_codes(v, v_dim, Codes::kValues, *to.scale, codes);
  spread_value(codes, v_dim, slot % 2 != 0, to.codes);
}

void key_write(void* keys, KvType type, int k_dim, int slot, const float* k) {
  if (type == KvType::kI16) return write_key<I16Codes>(keys, k_dim, slot, k);
  if (type == KvType::kQ8_0) return write_key<Q8Codes>(keys, k_dim, slot, k);
  float* floats = static_cast<float*>(keys);
  for (int d = 0; d < k_dim; ++d) floats[d * kPageKeys + slot] = k[d];
}

void value_write(void* values, KvType type, int v_dim, int slot, const float* v) {
  if (type == KvType::kI16) return write_value<I16Codes>(values, v_dim, slot, v);
  if (type == KvType::kQ8_0) return write_value<Q8Codes>(values, v_dim, slot, v);
  std::memcpy(static_cast<float*>(values) + int64_t{slot} * v_dim, v, sizeof(float) * static_cast<size_t>(v_dim));
}

}  // namespace
FOVEA_KERNEL(key_write)
FOVEA_KERNEL(value_write)
}  // namespace FOVEA_ISA_NS
}  // namespace fovea::kernels
