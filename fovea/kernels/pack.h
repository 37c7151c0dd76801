// The packed forms of weights; private to kernels. Of quantised ones a panel is 16 rows; it is a run of
// blocks of 32 columns, each:
//   scales   [n_scales][16]  half floats, as in the file (MXFP4: exponents; the wide forms: float32)
//   offsets  [16]            likewise, if the type has them
//   codes    4 x 64 bytes    vector j: low nibbles are step j, high nibbles step j + 4
//            (8-bit types: 8 x 64 bytes, vector j is step j)
//   high     64 bytes        5-bit types: bit j of a byte belongs to step j
//            2 x 64 bytes    6-bit types: bits 2(j % 4) of vector j / 4 belong to step j
//            (2-bit types have these alone, in place of nibbles; 3-bit types have these and a bit as 5-bit types)
// Step j holds columns 4j .. 4j+3 of row r in bytes 4r .. 4r+3: one SIMD lane is one row.
// The K types keep their numbers as small as the file has them: 8 blocks are a group, and before it stand the half
// floats [16] (and those of the offsets, negated) that the scales (and offsets) of its blocks, bytes here, multiply.
//
// Types that few files have multiply through a wide form without loss: 8-bit codes and a float32 scale for 32 or 16
// columns (rare_blocks.h); numbers of 64 bits and whole numbers through float32.
#pragma once

#include <cstddef>
#include <cstdint>

#include "fovea/kernels/dtype.h"
#include "fovea/kernels/matmul.h"

namespace fovea::kernels {

enum class Book : int { kNone, kIq4, kE2M1 };       // what nibbles stand for (blocks.h)
enum class Scales : int { kHalf, kPower, kFloat };  // how a block that is not of a group has them

struct PackKind {
  int bits = 0;        // 0: this dtype has no packed form
  int zero_log2 = -1;  // w = scale * (code - 2^zero_log2); -1: no zero point
  bool offset = false;
  bool grouped = false;  // scales and offsets are products of a group's half float and a byte
  int n_scales = 1;
  bool halves = false;  // Q2_K, Q3_K: the bytes multiply whole sums of 16 columns, offsets too (matmul_halves.h)
  Book book = Book::kNone;
  Scales scales = Scales::kHalf;

  // Inline always: a copy compiled for one instruction set must not serve the others, and a call in a loop over blocks
  // costs 3 % of decode.
  // Bits that a code has in a product.
  [[gnu::always_inline]] constexpr int width() const { return book == Book::kIq4 ? 8 : book == Book::kE2M1 ? 5 : bits; }
  [[gnu::always_inline]] constexpr int n_factors() const { return n_scales + (offset ? (halves ? n_scales : 1) : 0); }
  [[gnu::always_inline]] constexpr int scale_bytes() const {
    return 16 * (grouped || scales == Scales::kPower ? 1 : scales == Scales::kFloat ? 4 : 2);
  }
  [[gnu::always_inline]] constexpr int codes_at() const { return scale_bytes() * n_factors(); }
  [[gnu::always_inline]] constexpr int high_at() const { return codes_at() + (bits == 8 ? 512 : bits < 4 ? 128 : 256); }
  [[gnu::always_inline]] constexpr int block_bytes() const {
    return high_at() + (bits == 5 || bits == 3 ? 64 : bits == 6 ? 128 : 0);
  }
  [[gnu::always_inline]] constexpr int header_bytes() const { return grouped ? 32 * (offset ? 2 : 1) : 0; }
  [[gnu::always_inline]] constexpr int group_bytes() const { return header_bytes() + kGroup * block_bytes(); }
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
  // Of `halves`: what matmul_halves.h says.
  [[gnu::always_inline]] constexpr int spread_bytes() const {
    return 512 + 64 * (halves ? (offset ? 6 : 3) : n_factors());
  }

  static constexpr int kGroup = 8;
};

inline constexpr PackKind kPackQ4_0{4, 3, false, false, 1}, kPackQ4_1{4, -1, true, false, 1},
    kPackQ5_0{5, 4, false, false, 1}, kPackQ5_1{5, -1, true, false, 1}, kPackQ8_0{8, 7, false, false, 1},
    kPackQ4_K{4, -1, true, true, 1}, kPackQ5_K{5, -1, true, true, 1}, kPackQ6_K{6, 5, false, true, 2},
    kPackQ2_K{2, -1, true, true, 2, true}, kPackQ3_K{3, 2, false, true, 2, true},
    kPackIQ4_NL{4, 7, false, false, 1, false, Book::kIq4}, kPackIQ4_XS{4, 7, false, true, 1, false, Book::kIq4},
    kPackMXFP4{4, 4, false, false, 1, false, Book::kE2M1, Scales::kPower},
    kPackWide{8, 7, false, false, 1, false, Book::kNone, Scales::kFloat},
    kPackWideHalves{8, 7, false, false, 2, false, Book::kNone, Scales::kFloat};

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
    case DType::kQ2_K: return kPackQ2_K;
    case DType::kQ3_K: return kPackQ3_K;
    case DType::kIQ4_NL: return kPackIQ4_NL;
    case DType::kIQ4_XS: return kPackIQ4_XS;
    case DType::kMXFP4: return kPackMXFP4;
    case DType::kIQ2_XXS:
    case DType::kIQ3_XXS:
    case DType::kIQ3_S:
    case DType::kIQ1_S:
    case DType::kTQ1_0:
    case DType::kTQ2_0: return kPackWide;
    case DType::kIQ2_XS:
    case DType::kIQ2_S:
    case DType::kIQ1_M:
    case DType::kNVFP4: return kPackWideHalves;
    default: return {};
  }
}

// The element of a panel of floats; kI8 of a type that has no such panels.
constexpr DType panel_float(DType dtype) {
  switch (dtype) {
    case DType::kF32:
    case DType::kF16:
    case DType::kBF16: return dtype;
    case DType::kF64:
    case DType::kI8:
    case DType::kI16:
    case DType::kI32:
    case DType::kI64: return DType::kF32;
    default: return DType::kI8;
  }
}

// A panel of int16 codes (int16_panels.h), whole lines.
constexpr size_t int16_panel_bytes(int64_t cols) {
  return static_cast<size_t>(cols) * 32 + (static_cast<size_t>(cols) / 64 * 32 + 63) / 64 * 64;
}

// Private parts of pack_weights.
extern Dispatched<void(const WeightView&w, int64_t panel_begin, int64_t panel_end, void*out)> pack_file_types,
    pack_int16;

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
