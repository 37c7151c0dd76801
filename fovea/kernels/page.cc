// Transposed keys make a SIMD lane a key: q.k needs no horizontal sums.
#include <cstring>

#include "fovea/kernels/page_layout.h"

#if FOVEA_ISA_LEVEL == 0  // bandwidth-bound element moves: one copy is enough

namespace fovea::kernels {
namespace {

using FOVEA_ISA_NS::from_bf16;
using FOVEA_ISA_NS::I16Codes;
using FOVEA_ISA_NS::KeyLayout;
using FOVEA_ISA_NS::KeySlot;
using FOVEA_ISA_NS::Q8Codes;
using FOVEA_ISA_NS::ValueLayout;
using FOVEA_ISA_NS::ValueSlot;

template <typename Codes>
void read_key(const void* keys, int k_dim, int slot, float* k) {
  const KeySlot<Codes> from(const_cast<void*>(keys), k_dim, slot);  // only read
  for (int d = 0; d < k_dim; ++d) k[d] = static_cast<float>(from.code(d)) * from_bf16(from.scale(d));
  if constexpr (Codes::kMixed) FOVEA_ISA_NS::mix_columns(k, k_dim, /*divide=*/false, k);
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

void value_read(const void* values, KvType type, int v_dim, int slot, float* v) {
  if (type == KvType::kI16) return read_value<I16Codes>(values, v_dim, slot, v);
  if (type == KvType::kQ8_0) return read_value<Q8Codes>(values, v_dim, slot, v);
  std::memcpy(v, static_cast<const float*>(values) + int64_t{slot} * v_dim, sizeof(float) * static_cast<size_t>(v_dim));
}

void value_copy(void* to, int to_slot, const void* from, int from_slot, KvType type, int v_dim) {
  if (type == KvType::kI16) return copy_value<I16Codes>(to, to_slot, from, from_slot, v_dim);
  if (type == KvType::kQ8_0) return copy_value<Q8Codes>(to, to_slot, from, from_slot, v_dim);
  kernels::value_write(to, type, v_dim, to_slot, static_cast<const float*>(from) + int64_t{from_slot} * v_dim);
}

}  // namespace
FOVEA_KERNEL(key_read)
FOVEA_KERNEL(key_copy)
FOVEA_KERNEL(value_read)
FOVEA_KERNEL(value_copy)
}  // namespace FOVEA_ISA_NS
}  // namespace fovea::kernels

#endif
