// The bytes of a KV page: K transposed [head_dim][kPageKeys], then V [kPageKeys][head_dim], both in
// the page's element type. Transposed keys make a SIMD lane a key: q.k needs no horizontal sums.
#include <cstring>

#include "fovea/base/check.h"
#include "fovea/kernels/attention.h"

#if FOVEA_ISA_LEVEL == 0  // bandwidth-bound element moves: one copy is enough

namespace fovea::kernels {
namespace {

size_t element_bytes(KvType type) {
  FOVEA_CHECK(type != KvType::kQ8_0, "kv page: q8_0 pages are not there yet; use f16 or f32");
  return type == KvType::kF32 ? 4 : 2;
}

// IEEE half <-> float, round to nearest even; NaN stays NaN.
uint16_t to_half(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  const uint32_t sign = bits >> 16 & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u);
  if (magnitude >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);  // rounds past 65504
  if (magnitude < 0x38800000u) {  // subnormal in half: let the float unit round
    float scaled;
    std::memcpy(&scaled, &magnitude, 4);
    scaled += 0.5f;  // its low mantissa bits are now units of 2^-24
    uint32_t rounded;
    std::memcpy(&rounded, &scaled, 4);
    return static_cast<uint16_t>(sign | (rounded - 0x3f000000u));
  }
  const uint32_t odd = magnitude >> 13 & 1u;
  return static_cast<uint16_t>(sign | ((magnitude - 0x38000000u + 0xfffu + odd) >> 13));
}

float from_half(uint16_t half) {
  const uint32_t sign = (half & 0x8000u) << 16;
  const uint32_t exponent = half >> 10 & 0x1fu;
  const uint32_t mantissa = half & 0x3ffu;
  float value;
  if (exponent == 0) {
    value = static_cast<float>(mantissa) * 0x1p-24f;
  } else {
    const uint32_t bits = exponent == 31 ? 0x7f800000u | mantissa << 13 : (exponent + 112) << 23 | mantissa << 13;
    std::memcpy(&value, &bits, 4);
  }
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  bits |= sign;
  std::memcpy(&value, &bits, 4);
  return value;
}

void put(void* page, KvType type, int64_t index, float value) {
  if (type == KvType::kF32) {
    static_cast<float*>(page)[index] = value;
  } else {
    static_cast<uint16_t*>(page)[index] = to_half(value);
  }
}

float get(const void* page, KvType type, int64_t index) {
  return type == KvType::kF32 ? static_cast<const float*>(page)[index]
                              : from_half(static_cast<const uint16_t*>(page)[index]);
}

}  // namespace

size_t page_bytes(KvType type, int head_dim) {
  return 2 * element_bytes(type) * static_cast<size_t>(head_dim) * kPageKeys;
}

namespace FOVEA_ISA_NS {
namespace {

void page_write(void* page, KvType type, int head_dim, int slot, const float* k, const float* v) {
  const int64_t v_row = static_cast<int64_t>(head_dim) * (kPageKeys + slot);
  for (int d = 0; d < head_dim; ++d) {
    put(page, type, static_cast<int64_t>(d) * kPageKeys + slot, k[d]);
    put(page, type, v_row + d, v[d]);
  }
}

void page_read(const void* page, KvType type, int head_dim, int slot, float* k, float* v) {
  const int64_t v_row = static_cast<int64_t>(head_dim) * (kPageKeys + slot);
  for (int d = 0; d < head_dim; ++d) {
    k[d] = get(page, type, static_cast<int64_t>(d) * kPageKeys + slot);
    v[d] = get(page, type, v_row + d);
  }
}

}  // namespace
FOVEA_KERNEL(page_write)
FOVEA_KERNEL(page_read)
}  // namespace FOVEA_ISA_NS
}  // namespace fovea::kernels

#endif
