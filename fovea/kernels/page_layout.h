// The bytes of a KV page, for page.cc and the attention kernels only.
//
// f32, f16: K transposed [head_dim][kPageKeys], then V [kPageKeys][head_dim].
// q8_0: the same two arrays as int8 codes, each followed by its scales in half precision, one per key
// and 32 columns: K [n_groups][kPageKeys] (a lane is a key here too), V [kPageKeys][n_groups].
#pragma once

#include <cstdint>

#include "fovea/kernels/attention.h"

namespace fovea::kernels::FOVEA_ISA_NS {

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
