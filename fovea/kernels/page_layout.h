// The bytes of a KV page, for page.cc and the attention kernels only. Keys and values lie apart.
//
// f32:       keys transposed [k_dim][kPageKeys]; values [kPageKeys][v_dim].
// i16, q8_0: codes of int16 or int8 in pairs, as a dot product of int16 wants them: keys [k_dim / 2][kPageKeys][2] (a
//            lane is a key), then their scales as bfloat16 [n_groups][kPageKeys]; values [kPageKeys / 2][v_dim][2],
//            then their scales [kPageKeys].
#pragma once

#include <cstdint>

#include "fovea/kernels/attention.h"

namespace fovea::kernels::FOVEA_ISA_NS {

// What codes there are: the largest of keys and values, and how many columns of a key share a scale. The largest of
// queries and weights are what that leaves of 31 bits (attention_codes.h).
struct I16Codes {
  using Code = int16_t;
  static constexpr int kKeys = 4095, kValues = 2047, kGroupColumns = 256;
};
struct Q8Codes {
  using Code = int8_t;
  static constexpr int kKeys = 127, kValues = 127, kGroupColumns = 32;
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

}  // namespace fovea::kernels::FOVEA_ISA_NS
