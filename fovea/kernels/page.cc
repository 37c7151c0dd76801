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

using FOVEA_ISA_NS::I16Codes;
using FOVEA_ISA_NS::KeyLayout;
using FOVEA_ISA_NS::Q8Codes;
using FOVEA_ISA_NS::ValueLayout;

// One slot of a page of codes: those of columns 2 i and 2 i + 1 of a key stand together, and each column of a value
// beside its neighbour's.
template <typename Codes>
struct KeySlot {
  using Code = typename Codes::Code;
  Code* codes;
  uint16_t* scales;

  KeySlot(void* keys, int k_dim, int slot)
      : codes(static_cast<Code*>(keys) + 2 * slot),
        scales(reinterpret_cast<uint16_t*>(static_cast<char*>(keys) + KeyLayout<Codes>(k_dim).scales) + slot) {}
  Code& code(int d) const { return codes[d / 2 * 2 * kPageKeys + d % 2]; }
  uint16_t& scale(int d) const { return scales[d / Codes::kGroupColumns * kPageKeys]; }
};
template <typename Codes>
struct ValueSlot {
  using Code = typename Codes::Code;
  Code* codes;
  uint16_t* scale;

  ValueSlot(void* values, int v_dim, int slot)
      : codes(static_cast<Code*>(values) + int64_t{slot / 2} * 2 * v_dim + slot % 2),
        scale(reinterpret_cast<uint16_t*>(static_cast<char*>(values) + ValueLayout<Codes>(v_dim).scales) + slot) {}
  Code& code(int d) const { return codes[2 * d]; }
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
void write_key(void* keys, int k_dim, int slot, const float* k) {
  const KeySlot<Codes> to(keys, k_dim, slot);
  for (int begin = 0; begin < k_dim; begin += Codes::kGroupColumns) {
    const int end = std::min(begin + Codes::kGroupColumns, k_dim);
    put_codes(
        k, begin, end, Codes::kKeys, to.scale(begin), [&](int d) -> auto& { return to.code(d); });
  }
}
template <typename Codes>
void write_value(void* values, int v_dim, int slot, const float* v) {
  const ValueSlot<Codes> to(values, v_dim, slot);
  put_codes(
      v, 0, v_dim, Codes::kValues, *to.scale, [&](int d) -> auto& { return to.code(d); });
}

template <typename Codes>
void read_key(const void* keys, int k_dim, int slot, float* k) {
  const KeySlot<Codes> from(const_cast<void*>(keys), k_dim, slot);  // only read
  for (int d = 0; d < k_dim; ++d) k[d] = static_cast<float>(from.code(d)) * from_bf16(from.scale(d));
}
template <typename Codes>
void read_value(const void* values, int v_dim, int slot, float* v) {
  const ValueSlot<Codes> from(const_cast<void*>(values), v_dim, slot);
  const float scale = from_bf16(*from.scale);
  for (int d = 0; d < v_dim; ++d) v[d] = static_cast<float>(from.code(d)) * scale;
}

template <typename Codes>
void copy_key(void* to, int to_slot, const void* from, int from_slot, int k_dim) {
  const KeySlot<Codes> a(to, k_dim, to_slot), b(const_cast<void*>(from), k_dim, from_slot);
  for (int d = 0; d < k_dim; ++d) {
    a.code(d) = b.code(d);
    a.scale(d) = b.scale(d);
  }
}
template <typename Codes>
void copy_value(void* to, int to_slot, const void* from, int from_slot, int v_dim) {
  const ValueSlot<Codes> a(to, v_dim, to_slot), b(const_cast<void*>(from), v_dim, from_slot);
  for (int d = 0; d < v_dim; ++d) a.code(d) = b.code(d);
  *a.scale = *b.scale;
}

}  // namespace

size_t key_bytes(KvType type, int k_dim) {
  switch (type) {
    case KvType::kF32: return sizeof(float) * static_cast<size_t>(k_dim) * kPageKeys;
    case KvType::kI16: return static_cast<size_t>(KeyLayout<I16Codes>(k_dim).bytes);
    case KvType::kQ8_0: return static_cast<size_t>(KeyLayout<Q8Codes>(k_dim).bytes);
  }
  return 0;
}

size_t value_bytes(KvType type, int v_dim) {
  switch (type) {
    case KvType::kF32: return sizeof(float) * static_cast<size_t>(v_dim) * kPageKeys;
    case KvType::kI16: return static_cast<size_t>(ValueLayout<I16Codes>(v_dim).bytes);
    case KvType::kQ8_0: return static_cast<size_t>(ValueLayout<Q8Codes>(v_dim).bytes);
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

void key_write(void* keys, KvType type, int k_dim, int slot, const float* k) {
  if (type == KvType::kI16) return write_key<I16Codes>(keys, k_dim, slot, k);
  if (type == KvType::kQ8_0) return write_key<Q8Codes>(keys, k_dim, slot, k);
  float* floats = static_cast<float*>(keys);
  for (int d = 0; d < k_dim; ++d) floats[d * kPageKeys + slot] = k[d];
}

void key_read(const void* keys, KvType type, int k_dim, int slot, float* k) {
  if (type == KvType::kI16) return read_key<I16Codes>(keys, k_dim, slot, k);
  if (type == KvType::kQ8_0) return read_key<Q8Codes>(keys, k_dim, slot, k);
  const float* floats = static_cast<const float*>(keys);
  for (int d = 0; d < k_dim; ++d) k[d] = floats[d * kPageKeys + slot];
}

void key_copy(void* to, int to_slot, const void* from, int from_slot, KvType type, int k_dim) {
  if (type == KvType::kI16) return copy_key<I16Codes>(to, to_slot, from, from_slot, k_dim);
  if (type == KvType::kQ8_0) return copy_key<Q8Codes>(to, to_slot, from, from_slot, k_dim);
  const float* source = static_cast<const float*>(from);
  for (int d = 0; d < k_dim; ++d) static_cast<float*>(to)[d * kPageKeys + to_slot] = source[d * kPageKeys + from_slot];
}

void value_write(void* values, KvType type, int v_dim, int slot, const float* v) {
  if (type == KvType::kI16) return write_value<I16Codes>(values, v_dim, slot, v);
  if (type == KvType::kQ8_0) return write_value<Q8Codes>(values, v_dim, slot, v);
  std::memcpy(static_cast<float*>(values) + int64_t{slot} * v_dim, v, sizeof(float) * static_cast<size_t>(v_dim));
}

void value_read(const void* values, KvType type, int v_dim, int slot, float* v) {
  if (type == KvType::kI16) return read_value<I16Codes>(values, v_dim, slot, v);
  if (type == KvType::kQ8_0) return read_value<Q8Codes>(values, v_dim, slot, v);
  std::memcpy(v, static_cast<const float*>(values) + int64_t{slot} * v_dim, sizeof(float) * static_cast<size_t>(v_dim));
}

void value_copy(void* to, int to_slot, const void* from, int from_slot, KvType type, int v_dim) {
  if (type == KvType::kI16) return copy_value<I16Codes>(to, to_slot, from, from_slot, v_dim);
  if (type == KvType::kQ8_0) return copy_value<Q8Codes>(to, to_slot, from, from_slot, v_dim);
  value_write(to, type, v_dim, to_slot, static_cast<const float*>(from) + int64_t{from_slot} * v_dim);
}

}  // namespace
FOVEA_KERNEL(key_write)
FOVEA_KERNEL(key_read)
FOVEA_KERNEL(key_copy)
FOVEA_KERNEL(value_write)
FOVEA_KERNEL(value_read)
FOVEA_KERNEL(value_copy)
}  // namespace FOVEA_ISA_NS
}  // namespace fovea::kernels

#endif
