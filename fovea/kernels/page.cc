// Transposed keys make a SIMD lane a key: q.k needs no horizontal sums.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

#include "fovea/kernels/page_layout.h"

#if FOVEA_ISA_LEVEL == 0  // bandwidth-bound element moves: one copy is enough

namespace fovea::kernels {
namespace {

using FOVEA_ISA_NS::CodePage;
using FOVEA_ISA_NS::I16Codes;
using FOVEA_ISA_NS::Q8Codes;

// One slot of a page of codes: those of columns 2 i and 2 i + 1 of a key stand together, and each column of a value
// beside its neighbour's.
template <typename Codes>
struct CodeSlot {
  using Code = typename Codes::Code;
  Code *k, *v;
  uint16_t *k_scales, *v_scale;

  CodeSlot(void* page, int head_dim, int slot) {
    const CodePage<Codes> at(head_dim);
    char* bytes = static_cast<char*>(page);
    k = reinterpret_cast<Code*>(bytes) + 2 * slot;
    v = reinterpret_cast<Code*>(bytes + at.v_codes) + int64_t{slot / 2} * 2 * head_dim + slot % 2;
    k_scales = reinterpret_cast<uint16_t*>(bytes + at.k_scales) + slot;
    v_scale = reinterpret_cast<uint16_t*>(bytes + at.v_scales) + slot;
  }
  Code& key(int d) const { return k[d / 2 * 2 * kPageKeys + d % 2]; }
  Code& value(int d) const { return v[2 * d]; }
  uint16_t& key_scale(int d) const { return k_scales[d / Codes::kGroupColumns * kPageKeys]; }
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

// Codes at(begin) ... at(end - 1) of x[begin] ..., under one scale.
template <typename At>
void put_codes(const float* x, int begin, int end, int most, uint16_t& scale, const At& at) {
  scale = scale_up(largest_of(x + begin, end - begin), most);
  const float step = from_bf16(scale);
  const float up = step > 0.0f ? 1.0f / step : 0.0f;
  const float limit = static_cast<float>(most);
  for (int d = begin; d < end; ++d) {
    float code = up > 0.0f ? x[d] * up : 0.0f;
    code = code > limit ? limit : code < -limit ? -limit : code;  // the reciprocal is rounded
    constexpr float kWhole = 0x1.8p23f;                           // adding it rounds to a whole number
    using Code = std::remove_reference_t<decltype(at(d))>;
    at(d) = static_cast<Code>((code + kWhole) - kWhole);
  }
}

template <typename Codes>
void write_codes(void* page, int head_dim, int slot, const float* k, const float* v) {
  const CodeSlot<Codes> to(page, head_dim, slot);
  for (int begin = 0; begin < head_dim; begin += Codes::kGroupColumns) {
    const int end = std::min(begin + Codes::kGroupColumns, head_dim);
    put_codes(
        k, begin, end, Codes::kKeys, to.key_scale(begin), [&](int d) -> auto& { return to.key(d); });
  }
  put_codes(
      v, 0, head_dim, Codes::kValues, *to.v_scale, [&](int d) -> auto& { return to.value(d); });
}

template <typename Codes>
void read_codes(void* page, int head_dim, int slot, float* k, float* v) {
  const CodeSlot<Codes> from(page, head_dim, slot);
  const float v_scale = from_bf16(*from.v_scale);
  for (int d = 0; d < head_dim; ++d) {
    k[d] = static_cast<float>(from.key(d)) * from_bf16(from.key_scale(d));
    v[d] = static_cast<float>(from.value(d)) * v_scale;
  }
}

template <typename Codes>
void copy_codes(void* to, int to_slot, void* from, int from_slot, int head_dim) {
  const CodeSlot<Codes> a(to, head_dim, to_slot), b(from, head_dim, from_slot);
  for (int d = 0; d < head_dim; ++d) {
    a.key(d) = b.key(d);
    a.value(d) = b.value(d);
    a.key_scale(d) = b.key_scale(d);
  }
  *a.v_scale = *b.v_scale;
}

}  // namespace

size_t page_bytes(KvType type, int head_dim) {
  switch (type) {
    case KvType::kF32: return 2 * sizeof(float) * static_cast<size_t>(head_dim) * kPageKeys;
    case KvType::kI16: return static_cast<size_t>(CodePage<I16Codes>(head_dim).bytes);
    case KvType::kQ8_0: return static_cast<size_t>(CodePage<Q8Codes>(head_dim).bytes);
  }
  return 0;
}

std::string_view name_of(KvType type) {
  switch (type) {
    case KvType::kF32: return "f32";
    case KvType::kI16: return "i16";
    case KvType::kQ8_0: return "q8_0";
  }
  return "";
}

namespace FOVEA_ISA_NS {
namespace {

void page_write(void* page, KvType type, int head_dim, int slot, const float* k, const float* v) {
  if (type == KvType::kI16) return write_codes<I16Codes>(page, head_dim, slot, k, v);
  if (type == KvType::kQ8_0) return write_codes<Q8Codes>(page, head_dim, slot, k, v);
  float* floats = static_cast<float*>(page);
  for (int d = 0; d < head_dim; ++d) floats[d * kPageKeys + slot] = k[d];
  std::memcpy(floats + static_cast<int64_t>(head_dim) * (kPageKeys + slot), v,
              sizeof(float) * static_cast<size_t>(head_dim));
}

void page_read(const void* page, KvType type, int head_dim, int slot, float* k, float* v) {
  void* bytes = const_cast<void*>(page);  // only read
  if (type == KvType::kI16) return read_codes<I16Codes>(bytes, head_dim, slot, k, v);
  if (type == KvType::kQ8_0) return read_codes<Q8Codes>(bytes, head_dim, slot, k, v);
  const float* floats = static_cast<const float*>(page);
  for (int d = 0; d < head_dim; ++d) k[d] = floats[d * kPageKeys + slot];
  std::memcpy(v, floats + static_cast<int64_t>(head_dim) * (kPageKeys + slot),
              sizeof(float) * static_cast<size_t>(head_dim));
}

void page_copy(void* to, int to_slot, const void* from, int from_slot, KvType type, int head_dim) {
  void* source = const_cast<void*>(from);  // only read
  if (type == KvType::kI16) return copy_codes<I16Codes>(to, to_slot, source, from_slot, head_dim);
  if (type == KvType::kQ8_0) return copy_codes<Q8Codes>(to, to_slot, source, from_slot, head_dim);
  float k[256], v[256];
  page_read(from, type, head_dim, from_slot, k, v);
  page_write(to, type, head_dim, to_slot, k, v);
}

}  // namespace
FOVEA_KERNEL(page_write)
FOVEA_KERNEL(page_read)
FOVEA_KERNEL(page_copy)
}  // namespace FOVEA_ISA_NS
}  // namespace fovea::kernels

#endif
