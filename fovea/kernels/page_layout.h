// The bytes of a KV page, for page.cc and the attention kernels only. Keys and values lie apart.
//
// f32:       keys transposed [k_dim][kPageKeys]; values [kPageKeys][v_dim].
// i16, q8_0: codes of int16 or int8 in pairs, as a dot product of int16 wants them: keys [k_dim / 2][kPageKeys][2] (a
//            lane is a key), then their scales as bfloat16 [n_groups][kPageKeys]; values [kPageKeys / 2][v_dim][2],
//            then their scales [kPageKeys]. Keys of q8_0 are mixed (mix_columns).
#pragma once

#include <cstdint>
#include <cstring>

#include "fovea/kernels/attention.h"

namespace fovea::kernels::FOVEA_ISA_NS {

// What codes there are: the largest of keys and values, and how many columns of a key share a scale. The largest of
// queries and weights are what that leaves of 31 bits (attention_codes.h).
struct I16Codes {
  using Code = int16_t;
  static constexpr int kKeys = 4095, kValues = 2047, kGroupColumns = 256;
  static constexpr bool kMixed = false;
};
struct Q8Codes {
  using Code = int8_t;
  static constexpr int kKeys = 127, kValues = 127, kGroupColumns = 32;
  static constexpr bool kMixed = true;
};

// Offsets from the first key.
template <typename Codes>
struct KeyLayout {
  int n_groups;  // the last one is shorter if its columns do not divide k_dim
  int64_t scales, bytes;
  explicit constexpr KeyLayout(int k_dim)
      : n_groups((k_dim + Codes::kGroupColumns - 1) / Codes::kGroupColumns),
        scales(int64_t{sizeof(typename Codes::Code)} * kPageKeys * k_dim),
        bytes(scales + int64_t{2} * kPageKeys * n_groups) {}
};
template <typename Codes>
struct ValueLayout {
  int64_t scales, bytes;
  explicit constexpr ValueLayout(int v_dim)
      : scales(int64_t{sizeof(typename Codes::Code)} * kPageKeys * v_dim), bytes(scales + 2 * kPageKeys) {}
};

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

// y = H x, over blocks of 64 columns (of what is left 32, 16, 8), H the Hadamard matrix of 1 and -1: H H = n. Keys of
// q8_0 are rounded as H k / n, and queries become H q, so that q.k is what it was. A column that is far larger than its
// neighbours, as biases of keys make them, would take their steps; so all of a block share it. y may be x.
inline void mix_columns(const float* x, int n, bool divide, float* y) {
  for (int begin = 0, size = 64; begin < n; begin += size) {
    while (size > n - begin) size /= 2;  // n is a multiple of 8
    const float by = divide ? 1.0f / static_cast<float>(size) : 1.0f;
    for (int d = 0; d < size; ++d) y[begin + d] = x[begin + d] * by;
    for (int half = 1; half < size; half *= 2) {
      for (int at = begin; at < begin + size; at += 2 * half) {
        for (int d = at; d < at + half; ++d) {
          const float a = y[d], b = y[d + half];
          y[d] = a + b, y[d + half] = a - b;
        }
      }
    }
  }
}

inline float from_bf16(uint16_t high) {
  const uint32_t bits = uint32_t{high} << 16;
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

}  // namespace fovea::kernels::FOVEA_ISA_NS
