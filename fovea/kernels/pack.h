// The packed form of quantised weights; private to kernels. A panel is 16 rows; it is a run of
// blocks of 32 columns, each:
//   scales   [n_scales][16]  half floats, as in the file
//   offsets  [16]            likewise, if the type has them
//   codes    4 x 64 bytes    vector j: low nibbles are step j, high nibbles step j + 4
//            (8-bit types: 8 x 64 bytes, vector j is step j)
//   high     64 bytes        5-bit types: bit j of a byte belongs to step j
//            2 x 64 bytes    6-bit types: bits 2(j % 4) of vector j / 4 belong to step j
// Step j holds columns 4j .. 4j+3 of row r in bytes 4r .. 4r+3: one SIMD lane is one row.
// The K types keep their numbers as small as the file has them: 8 blocks are a group, and before it stand the half
// floats [16] (and those of the offsets, negated) that the scales (and offsets) of its blocks, bytes here, multiply.
#pragma once

#include <cstdint>

#include "fovea/kernels/dtype.h"

namespace fovea::kernels {

struct PackKind {
  int bits = 0;        // 0: this dtype has no packed form
  int zero_log2 = -1;  // w = scale * (code - 2^zero_log2); -1: no zero point
  bool offset = false;
  bool grouped = false;  // scales and offsets are products of a group's half float and a byte
  int n_scales = 1;

  constexpr int n_factors() const { return n_scales + (offset ? 1 : 0); }
  constexpr int scale_bytes() const { return 16 * (grouped ? 1 : 2); }
  constexpr int codes_at() const { return scale_bytes() * n_factors(); }
  constexpr int high_at() const { return codes_at() + (bits == 8 ? 512 : 256); }
  constexpr int block_bytes() const { return high_at() + (bits == 5 ? 64 : bits == 6 ? 128 : 0); }
  constexpr int header_bytes() const { return grouped ? 32 * (offset ? 2 : 1) : 0; }
  // Inline always: a copy compiled for one instruction set must not serve the others.
  constexpr int group_bytes() const { return header_bytes() + kGroup * block_bytes(); }
  [[gnu::always_inline]] constexpr int64_t panel_bytes(int64_t n_blocks) const {
    return grouped ? n_blocks / kGroup * group_bytes() : n_blocks * block_bytes();
  }
  // Where the header of block b's group begins, and block b.
  [[gnu::always_inline]] constexpr int64_t group_at(int64_t b) const {
    return grouped ? b / kGroup * group_bytes() : 0;
  }
  [[gnu::always_inline]] constexpr int64_t block_at(int64_t b) const {
    return grouped ? group_at(b) + header_bytes() + b % kGroup * block_bytes() : b * block_bytes();
  }

  // A block spread for many tokens: codes [8][64] as bytes, then [n_factors][16] scales and offsets in float32.
  constexpr int spread_bytes() const { return 512 + 64 * n_factors(); }

  static constexpr int kGroup = 8;
};

inline constexpr PackKind kPackQ4_0{4, 3, false, false, 1}, kPackQ4_1{4, -1, true, false, 1},
    kPackQ5_0{5, 4, false, false, 1}, kPackQ5_1{5, -1, true, false, 1}, kPackQ8_0{8, 7, false, false, 1},
    kPackQ4_K{4, -1, true, true, 1}, kPackQ5_K{5, -1, true, true, 1}, kPackQ6_K{6, 5, false, true, 2};

constexpr PackKind kind_of(DType dtype) {
  switch (dtype) {
    case DType::kQ4_0: return kPackQ4_0;
    case DType::kQ4_1: return kPackQ4_1;
    case DType::kQ5_0: return kPackQ5_0;
    case DType::kQ5_1: return kPackQ5_1;
    case DType::kQ8_0: return kPackQ8_0;
    case DType::kQ4_K: return kPackQ4_K;
    case DType::kQ5_K: return kPackQ5_K;
    case DType::kQ6_K: return kPackQ6_K;
    default: return {};
  }
}

// What the quantised form of the activations says of 32 columns of one token. The int8 values come
// first, [n_tokens][cols]; then these, [n_tokens][cols / 32].
struct BlockMeta {
  float scale;  // x = scale * q
  float sum;    // scale * (sum of q)
  // -128 * (sum of q), and of its first and last 16: what a zero point of 128 takes away. A smaller zero
  // point of 2^n takes these shifted right by 7 - n. With AVX2 each holds two 16-bit numbers instead, -1 * (sum of q)
  // of the first two and of the last two of every four columns, and a zero point of 2^n takes 2^n of them.
  int32_t negative, negative_half[2];
};

}  // namespace fovea::kernels
