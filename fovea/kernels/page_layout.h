// The bytes of a KV page, for page.cc and the attention kernels only.
//
// f32:       K transposed [head_dim][kPageKeys], then V [kPageKeys][head_dim].
// i16, q8_0: codes of int16 or int8 in pairs, as a dot product of int16 wants them: K [head_dim / 2][kPageKeys][2] (a
//            lane is a key), then V [kPageKeys / 2][head_dim][2]; then scales as bfloat16, of the keys
//            [n_groups][kPageKeys] and of the values [kPageKeys].
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

template <typename Codes>
struct CodePage {
  int64_t v_codes, k_scales, v_scales, bytes;  // offsets from the page, and its end
  int n_groups;                                // the last one is shorter if its columns do not divide head_dim

  explicit constexpr CodePage(int head_dim)
      : v_codes(int64_t{sizeof(typename Codes::Code)} * kPageKeys * head_dim),
        k_scales(2 * v_codes),
        v_scales(0),
        bytes(0),
        n_groups((head_dim + Codes::kGroupColumns - 1) / Codes::kGroupColumns) {
    v_scales = k_scales + int64_t{2} * kPageKeys * n_groups;
    bytes = v_scales + 2 * kPageKeys;
  }
};

}  // namespace fovea::kernels::FOVEA_ISA_NS
