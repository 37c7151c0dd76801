// Transposed keys make a SIMD lane a key: q.k needs no horizontal sums.
#include <cmath>
#include <cstring>

#include "fovea/kernels/page_layout.h"

#if FOVEA_ISA_LEVEL == 0  // bandwidth-bound element moves: one copy is enough

namespace fovea::kernels {
namespace {

using FOVEA_ISA_NS::kGroupColumns;
using FOVEA_ISA_NS::Q8Page;

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

// One slot: code d is at codes[d * code_step], the scale of group g at scales[g * scale_step].
struct Q8Slot {
  int8_t* codes;
  uint16_t* scales;
  int64_t code_step, scale_step;
};
Q8Slot key_slot(void* page, int head_dim, int slot) {
  const Q8Page at(head_dim);
  char* bytes = static_cast<char*>(page);
  return {reinterpret_cast<int8_t*>(bytes + at.k_codes) + slot, reinterpret_cast<uint16_t*>(bytes + at.k_scales) + slot,
          kPageKeys, kPageKeys};
}
Q8Slot value_slot(void* page, int head_dim, int slot) {
  const Q8Page at(head_dim);
  char* bytes = static_cast<char*>(page);
  return {reinterpret_cast<int8_t*>(bytes + at.v_codes) + int64_t{slot} * head_dim,
          reinterpret_cast<uint16_t*>(bytes + at.v_scales) + int64_t{slot} * at.n_groups, 1, 1};
}

// Codes in [-127, 127] times the largest magnitude / 127. A group with an element that is not finite,
// or beyond 127 times the largest half, comes back as NaN.
void put_q8(const Q8Slot& to, int head_dim, const float* x) {
  for (int begin = 0; begin < head_dim; begin += kGroupColumns) {
    const int end = begin + kGroupColumns < head_dim ? begin + kGroupColumns : head_dim;
    float largest = 0.0f;
    bool finite = true;
    for (int d = begin; d < end; ++d) {
      largest = std::fmax(largest, std::fabs(x[d]));
      finite = finite && std::isfinite(x[d]);
    }
    const uint16_t half = finite ? to_half(largest / 127.0f) : uint16_t{0x7e00};
    const float scale = from_half(half);
    const bool usable = std::isfinite(scale);
    to.scales[begin / kGroupColumns * to.scale_step] = usable ? half : uint16_t{0x7e00};
    for (int d = begin; d < end; ++d) {
      float code = usable && scale > 0.0f ? std::nearbyint(x[d] / scale) : 0.0f;
      code = std::fmin(127.0f, std::fmax(-127.0f, code));  // the scale may have been rounded down
      to.codes[d * to.code_step] = static_cast<int8_t>(code);
    }
  }
}

void get_q8(const Q8Slot& from, int head_dim, float* x) {
  for (int d = 0; d < head_dim; ++d) {
    const float scale = from_half(from.scales[d / kGroupColumns * from.scale_step]);
    x[d] = static_cast<float>(from.codes[d * from.code_step]) * scale;
  }
}

}  // namespace

size_t page_bytes(KvType type, int head_dim) {
  if (type == KvType::kQ8_0) return static_cast<size_t>(Q8Page(head_dim).bytes);
  return 2 * (type == KvType::kF32 ? sizeof(float) : sizeof(uint16_t)) * static_cast<size_t>(head_dim) * kPageKeys;
}

namespace FOVEA_ISA_NS {
namespace {

void page_write(void* page, KvType type, int head_dim, int slot, const float* k, const float* v) {
  if (type == KvType::kQ8_0) {
    put_q8(key_slot(page, head_dim, slot), head_dim, k);
    put_q8(value_slot(page, head_dim, slot), head_dim, v);
    return;
  }
  const int64_t v_row = static_cast<int64_t>(head_dim) * (kPageKeys + slot);
  for (int d = 0; d < head_dim; ++d) {
    put(page, type, static_cast<int64_t>(d) * kPageKeys + slot, k[d]);
    put(page, type, v_row + d, v[d]);
  }
}

void page_read(const void* page, KvType type, int head_dim, int slot, float* k, float* v) {
  if (type == KvType::kQ8_0) {
    void* bytes = const_cast<void*>(page);  // only read
    get_q8(key_slot(bytes, head_dim, slot), head_dim, k);
    get_q8(value_slot(bytes, head_dim, slot), head_dim, v);
    return;
  }
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
