// Transposed keys make a SIMD lane a key: q.k needs no horizontal sums.
#include <cmath>
#include <cstring>
#include <limits>

#include "fovea/kernels/page_layout.h"

#if FOVEA_ISA_LEVEL == 0  // bandwidth-bound element moves: one copy is enough

namespace fovea::kernels {
namespace {

using FOVEA_ISA_NS::CodePage;
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

void copy_q8(const Q8Slot& to, const Q8Slot& from, int head_dim) {
  for (int d = 0; d < head_dim; ++d) to.codes[d * to.code_step] = from.codes[d * from.code_step];
  for (int g = 0; g * kGroupColumns < head_dim; ++g) to.scales[g * to.scale_step] = from.scales[g * from.scale_step];
}

// One slot of an i16 page: the codes of columns 2 i and 2 i + 1 of a key stand together, and each column of a value
// beside its neighbour's.
struct CodeSlot {
  int16_t *k, *v;
  uint16_t *k_scale, *v_scale;

  CodeSlot(void* page, int head_dim, int slot) {
    const CodePage at(head_dim);
    char* bytes = static_cast<char*>(page);
    k = reinterpret_cast<int16_t*>(bytes) + 2 * slot;
    v = reinterpret_cast<int16_t*>(bytes + at.v_codes) + int64_t{slot / 2} * 2 * head_dim + slot % 2;
    k_scale = reinterpret_cast<uint16_t*>(bytes + at.k_scales) + slot;
    v_scale = reinterpret_cast<uint16_t*>(bytes + at.v_scales) + slot;
  }
  int16_t& key(int d) const { return k[d / 2 * 2 * kPageKeys + d % 2]; }
  int16_t& value(int d) const { return v[2 * d]; }
};

float from_bf16(uint16_t high) {
  const uint32_t bits = uint32_t{high} << 16;
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

// The least bfloat16 that is no less than x / most: no code exceeds `most`. NaN if x is not finite.
uint16_t scale_up(float x, int most) {
  if (!std::isfinite(x)) return 0x7fc0;
  const float scale = x / static_cast<float>(most);
  if (scale < std::numeric_limits<float>::min()) return 0;
  uint32_t bits;
  std::memcpy(&bits, &scale, 4);
  return static_cast<uint16_t>((bits + 0xffff) >> 16);
}

// Not finite if an element is not.
float largest_of(const float* x, int n) {
  float largest = 0.0f, zeros = 0.0f;
  for (int i = 0; i < n; ++i) {
    largest = std::fabs(x[i]) > largest ? std::fabs(x[i]) : largest;
    zeros += x[i] * 0.0f;
  }
  return largest + zeros;
}

template <typename At>
void put_codes(const float* x, int n, int most, uint16_t& scale, const At& at) {
  scale = scale_up(largest_of(x, n), most);
  const float step = from_bf16(scale);
  const float up = step > 0.0f ? 1.0f / step : 0.0f;
  const float limit = static_cast<float>(most);
  for (int d = 0; d < n; ++d) {
    float code = up > 0.0f ? x[d] * up : 0.0f;
    code = code > limit ? limit : code < -limit ? -limit : code;  // the reciprocal is rounded
    constexpr float kWhole = 0x1.8p23f;                           // adding it rounds to a whole number
    at(d) = static_cast<int16_t>((code + kWhole) - kWhole);
  }
}

}  // namespace

size_t page_bytes(KvType type, int head_dim) {
  switch (type) {
    case KvType::kF32: return 2 * sizeof(float) * static_cast<size_t>(head_dim) * kPageKeys;
    case KvType::kI16: return static_cast<size_t>(CodePage(head_dim).bytes);
    case KvType::kQ8_0: return static_cast<size_t>(Q8Page(head_dim).bytes);
  }
  return 0;
}

namespace FOVEA_ISA_NS {
namespace {

void page_write(void* page, KvType type, int head_dim, int slot, const float* k, const float* v) {
  if (type == KvType::kQ8_0) {
    put_q8(key_slot(page, head_dim, slot), head_dim, k);
    put_q8(value_slot(page, head_dim, slot), head_dim, v);
    return;
  }
  if (type == KvType::kI16) {
    const CodeSlot to(page, head_dim, slot);
    put_codes(k, head_dim, kKeyCodes, *to.k_scale, [&](int d) -> int16_t& { return to.key(d); });
    put_codes(v, head_dim, kValueCodes, *to.v_scale, [&](int d) -> int16_t& { return to.value(d); });
    return;
  }
  float* floats = static_cast<float*>(page);
  for (int d = 0; d < head_dim; ++d) floats[d * kPageKeys + slot] = k[d];
  std::memcpy(floats + static_cast<int64_t>(head_dim) * (kPageKeys + slot), v,
              sizeof(float) * static_cast<size_t>(head_dim));
}

void page_read(const void* page, KvType type, int head_dim, int slot, float* k, float* v) {
  if (type == KvType::kQ8_0) {
    void* bytes = const_cast<void*>(page);  // only read
    get_q8(key_slot(bytes, head_dim, slot), head_dim, k);
    get_q8(value_slot(bytes, head_dim, slot), head_dim, v);
    return;
  }
  if (type == KvType::kI16) {
    const CodeSlot from(const_cast<void*>(page), head_dim, slot);  // only read
    const float k_scale = from_bf16(*from.k_scale), v_scale = from_bf16(*from.v_scale);
    for (int d = 0; d < head_dim; ++d) {
      k[d] = static_cast<float>(from.key(d)) * k_scale;
      v[d] = static_cast<float>(from.value(d)) * v_scale;
    }
    return;
  }
  const float* floats = static_cast<const float*>(page);
  for (int d = 0; d < head_dim; ++d) k[d] = floats[d * kPageKeys + slot];
  std::memcpy(v, floats + static_cast<int64_t>(head_dim) * (kPageKeys + slot),
              sizeof(float) * static_cast<size_t>(head_dim));
}

void page_copy(void* to, int to_slot, const void* from, int from_slot, KvType type, int head_dim) {
  void* source = const_cast<void*>(from);  // only read
  if (type == KvType::kI16) {
    const CodeSlot a(to, head_dim, to_slot), b(source, head_dim, from_slot);
    for (int d = 0; d < head_dim; ++d) {
      a.key(d) = b.key(d);
      a.value(d) = b.value(d);
    }
    *a.k_scale = *b.k_scale;
    *a.v_scale = *b.v_scale;
  } else if (type == KvType::kQ8_0) {
    copy_q8(key_slot(to, head_dim, to_slot), key_slot(source, head_dim, from_slot), head_dim);
    copy_q8(value_slot(to, head_dim, to_slot), value_slot(source, head_dim, from_slot), head_dim);
  } else {
    float k[256], v[256];
    page_read(from, type, head_dim, from_slot, k, v);
    page_write(to, type, head_dim, to_slot, k, v);
  }
}

}  // namespace
FOVEA_KERNEL(page_write)
FOVEA_KERNEL(page_read)
FOVEA_KERNEL(page_copy)
}  // namespace FOVEA_ISA_NS
}  // namespace fovea::kernels

#endif
