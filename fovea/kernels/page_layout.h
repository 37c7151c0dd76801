// The bytes of a KV page, for page.cc and the attention kernels only.
//
// f32:  K transposed [head_dim][kPageKeys], then V [kPageKeys][head_dim].
// i16:  codes in pairs, as a dot product of int16 wants them: K [head_dim / 2][kPageKeys][2] (a lane is a key), then
//       V [kPageKeys / 2][head_dim][2]; then the scales of the keys and of the values as bfloat16, one per key.
// q8_0: K and V as for f32, as int8 codes, each followed by its scales in half precision, one per key
//       and 32 columns: K [n_groups][kPageKeys] (a lane is a key here too), V [kPageKeys][n_groups].
#pragma once

#include <cstdint>

#include "fovea/kernels/attention.h"

namespace fovea::kernels::FOVEA_ISA_NS {

// i16: the largest codes. Queries and weights get what is left of 31 bits (attention_codes.h).
constexpr int kKeyCodes = 4095, kValueCodes = 2047;

struct CodePage {
  int64_t v_codes, k_scales, v_scales, bytes;  // offsets from the page, and its end

  explicit constexpr CodePage(int head_dim)
      : v_codes(int64_t{2} * kPageKeys * head_dim),
        k_scales(2 * v_codes),
        v_scales(k_scales + 2 * kPageKeys),
        bytes(v_scales + 2 * kPageKeys) {}
};

constexpr int kGroupColumns = 32;  // the last group of a head is shorter if 32 does not divide

struct Q8Page {
  int64_t k_codes, k_scales, v_codes, v_scales, bytes;  // offsets from the page, and its end
  int n_groups;

  explicit constexpr Q8Page(int head_dim)
      : k_codes(0),
        k_scales(int64_t{kPageKeys} * head_dim),
        v_codes(0),
        v_scales(0),
        bytes(0),
        n_groups((head_dim + kGroupColumns - 1) / kGroupColumns) {
    const int64_t scale_bytes = int64_t{2} * kPageKeys * n_groups;
    v_codes = k_scales + scale_bytes;
    v_scales = v_codes + int64_t{kPageKeys} * head_dim;
    bytes = v_scales + scale_bytes;
  }
};

}  // namespace fovea::kernels::FOVEA_ISA_NS
