#include "fovea/kernels/pack.h"

#include <algorithm>

#include "fovea/kernels/matmul.h"
#include "fovea/kernels/rare_blocks.h"

#if FOVEA_ISA_LEVEL == 0  // bound by memory: one copy is enough

namespace fovea::kernels {
namespace portable {
namespace {

// Four words of one row, or one word each of four rows.
using Words = uint32_t __attribute__((vector_size(16)));

Words load_words(const uint8_t* p) {
  Words words;
  std::memcpy(&words, p, sizeof words);
  return words;
}

Words all(uint32_t word) { return Words{word, word, word, word}; }

void transpose(Words (&m)[4]) {
  const Words a = __builtin_shufflevector(m[0], m[1], 0, 4, 1, 5), b = __builtin_shufflevector(m[2], m[3], 0, 4, 1, 5);
  const Words c = __builtin_shufflevector(m[0], m[1], 2, 6, 3, 7), d = __builtin_shufflevector(m[2], m[3], 2, 6, 3, 7);
  m[0] = __builtin_shufflevector(a, b, 0, 1, 4, 5), m[1] = __builtin_shufflevector(a, b, 2, 3, 6, 7);
  m[2] = __builtin_shufflevector(c, d, 0, 1, 4, 5), m[3] = __builtin_shufflevector(c, d, 2, 3, 6, 7);
}

// Bit 4j + k of each word goes to 8k + j: exchanges two bits of the bits' numbers, four times.
Words steps_to_bits(Words x) {
  const auto exchange = [&x](int distance, uint32_t mask) {
    const Words t = (x >> distance ^ x) & all(mask);
    x ^= t ^ t << distance;
  };
  exchange(14, 0x0000ccccu), exchange(7, 0x00aa00aau), exchange(2, 0x0c0c0c0cu), exchange(1, 0x22222222u);
  return x;
}

// 32 columns of one row, almost in the packed form: word j is what the row adds to vector j.
struct RowCodes {
  Words low[2];    // the second: 8-bit types only
  Words high[2];   // 5 and 6 bits: the bits above the nibbles, a word per step, in the low bits of each byte
  Words two[2];    // 2 and 3 bits: the lower two, likewise; `high` has the third
  uint32_t fifth;  // or bit i belongs to column i
};

// In the older 4- and 5-bit formats, byte i holds columns i and i + 16: the packed form's order.
template <int kHeader>
void read_nibbles(const uint8_t* block, int, RowCodes& out) {
  out.low[0] = load_words(block + kHeader);
}
template <int kHeader>
void read_fifths(const uint8_t* block, int, RowCodes& out) {
  out.low[0] = load_words(block + kHeader + 4);
  out.fifth = load_u32(block + kHeader);
}
void read_bytes(const uint8_t* block, int, RowCodes& out) {
  for (int i = 0; i < 2; ++i) out.low[i] = load_words(block + 2 + 16 * i) ^ all(0x80808080u);
}

// The K formats hold two groups of 32 columns in the nibbles of 32 bytes, one after the other.
Words joined_nibbles(const uint8_t* q, bool upper) {
  const Words first = load_words(q), last = load_words(q + 16);
  return upper ? (first >> 4 & all(0x0f0f0f0fu)) | (last & all(0xf0f0f0f0u))
               : (first & all(0x0f0f0f0fu)) | (last & all(0x0f0f0f0fu)) << 4;
}
void read_q4_k_codes(const uint8_t* block, int group, RowCodes& out) {
  out.low[0] = joined_nibbles(block + 16 + group / 2 * 32, group % 2);
}
void read_q5_k_codes(const uint8_t* block, int group, RowCodes& out) {
  out.low[0] = joined_nibbles(block + 48 + group / 2 * 32, group % 2);
  for (int i = 0; i < 2; ++i) out.high[i] = load_words(block + 16 + 16 * i) >> group & all(0x01010101u);
}
void read_q6_k_codes(const uint8_t* block, int group, RowCodes& out) {
  const int half = group / 4, part = group % 4;
  out.low[0] = joined_nibbles(block + half * 64 + part % 2 * 32, part >= 2);
  for (int i = 0; i < 2; ++i) out.high[i] = load_words(block + 128 + half * 32 + 16 * i) >> 2 * part & all(0x03030303u);
}

void read_q2_k_codes(const uint8_t* block, int group, RowCodes& out) {
  for (int i = 0; i < 2; ++i)
    out.two[i] = load_words(block + 16 + group / 4 * 32 + 16 * i) >> 2 * (group % 4) & all(0x03030303u);
}
void read_q3_k_codes(const uint8_t* block, int group, RowCodes& out) {
  for (int i = 0; i < 2; ++i) {
    out.two[i] = load_words(block + 32 + group / 4 * 32 + 16 * i) >> 2 * (group % 4) & all(0x03030303u);
    out.high[i] = load_words(block + 16 * i) >> group & all(0x01010101u);
  }
}
void read_iq4_xs_codes(const uint8_t* block, int group, RowCodes& out) {
  out.low[0] = load_words(block + 8 + 16 * group);
}

// The file's blocks of 16 rows of one panel; rows past the end read zeros.
struct PanelBlocks {
  const uint8_t* at[kPanelRows];
};

template <void (*Read)(const uint8_t*, int, RowCodes&), const PackKind& K, bool kFifths>
void put_codes(const PanelBlocks& blocks, int group, uint8_t* out) {
  for (int row = 0; row < kPanelRows; row += 4) {
    Words low[2][4], high[2][4], two[2][4];
    Words fifth = {};
    for (int r = 0; r < 4; ++r) {
      RowCodes codes;
      Read(blocks.at[row + r], group, codes);
      if constexpr (K.bits >= 4) low[0][r] = codes.low[0];
      if constexpr (K.bits < 4) two[0][r] = codes.two[0], two[1][r] = codes.two[1];
      if constexpr (K.bits == 8) low[1][r] = codes.low[1];
      if constexpr (K.bits == 6 || K.bits == 3 || (K.bits == 5 && !kFifths))
        high[0][r] = codes.high[0], high[1][r] = codes.high[1];
      if constexpr (kFifths) fifth[r] = codes.fifth;
    }
    const auto store = [&](int at, const Words& words) { std::memcpy(out + at + 4 * row, &words, sizeof words); };
    for (int i = 0; i < (K.bits == 8 ? 2 : K.bits < 4 ? 0 : 1); ++i) {
      transpose(low[i]);
      for (int j = 0; j < 4; ++j) store(K.codes_at() + 64 * (4 * i + j), low[i][j]);
    }
    for (int i = 0; i < (K.bits < 4 ? 2 : 0); ++i) {
      transpose(two[i]);
      store(K.codes_at() + 64 * i, two[i][0] | two[i][1] << 2 | two[i][2] << 4 | two[i][3] << 6);
    }
    if constexpr (kFifths) {
      store(K.high_at(), steps_to_bits(fifth));
    } else if constexpr (K.bits == 5 || K.bits == 6 || K.bits == 3) {
      transpose(high[0]), transpose(high[1]);
      constexpr int kBits = K.bits == 6 ? 2 : 1;
      Words bits[2];
      for (int i = 0; i < 2; ++i)
        bits[i] = high[i][0] | high[i][1] << kBits | high[i][2] << 2 * kBits | high[i][3] << 3 * kBits;
      if constexpr (kBits == 1) {
        store(K.high_at(), bits[0] | bits[1] << 4);
      } else {
        store(K.high_at(), bits[0]), store(K.high_at() + 64, bits[1]);
      }
    }
  }
}

// What stands before the codes: half floats as they are in the file, one or two at the start of a block.
template <const PackKind& K>
struct HalfScales {
  static void put_header(const PanelBlocks&, uint8_t*) {}
  void read(const PanelBlocks&) {}
  void put(const PanelBlocks& blocks, int, uint8_t* out) const {
    for (int r = 0; r < kPanelRows; ++r) {
      std::memcpy(out + 2 * r, blocks.at[r], 2);
      if constexpr (K.offset) std::memcpy(out + K.scale_bytes() + 2 * r, blocks.at[r] + 2, 2);
    }
  }
};

// Q4_K, Q5_K: two half floats of the block and eight pairs of 6-bit numbers.
struct PairScales {
  uint8_t scales[8][kPanelRows], mins[8][kPanelRows];
  static void put_header(const PanelBlocks& blocks, uint8_t* out) {
    for (int r = 0; r < kPanelRows; ++r) {
      std::memcpy(out + 2 * r, blocks.at[r], 2);
      out[32 + 2 * r] = blocks.at[r][2];
      out[33 + 2 * r] = blocks.at[r][3] ^ 0x80u;  // a minimum is taken away
    }
  }
  void read(const PanelBlocks& blocks) {
    for (int r = 0; r < kPanelRows; ++r) {
      for (int j = 0; j < 8; ++j) k_scale_min(blocks.at[r] + 4, j, scales[j][r], mins[j][r]);
    }
  }
  void put(const PanelBlocks&, int group, uint8_t* out) const {
    std::memcpy(out, scales[group], kPanelRows);
    std::memcpy(out + kPanelRows, mins[group], kPanelRows);
  }
};

// Q6_K: a half float of the block and sixteen signed bytes.
struct SignedScales {
  static void put_header(const PanelBlocks& blocks, uint8_t* out) {
    for (int r = 0; r < kPanelRows; ++r) std::memcpy(out + 2 * r, blocks.at[r] + 208, 2);
  }
  void read(const PanelBlocks&) {}
  void put(const PanelBlocks& blocks, int group, uint8_t* out) const {
    for (int r = 0; r < kPanelRows; ++r) {
      for (int i = 0; i < 2; ++i) out[i * kPanelRows + r] = blocks.at[r][192 + 2 * group + i];
    }
  }
};

// Q2_K: sixteen pairs of 4-bit numbers, and two half floats at the end.
struct NibblePairScales {
  static void put_header(const PanelBlocks& blocks, uint8_t* out) {
    for (int r = 0; r < kPanelRows; ++r) {
      std::memcpy(out + 2 * r, blocks.at[r] + 80, 2);
      out[32 + 2 * r] = blocks.at[r][82];
      out[33 + 2 * r] = blocks.at[r][83] ^ 0x80u;  // a minimum is taken away
    }
  }
  void read(const PanelBlocks&) {}
  void put(const PanelBlocks& blocks, int group, uint8_t* out) const {
    for (int r = 0; r < kPanelRows; ++r) {
      for (int i = 0; i < 2; ++i) {
        const uint8_t both = blocks.at[r][2 * group + i];
        out[i * kPanelRows + r] = both & 0xf, out[(2 + i) * kPanelRows + r] = both >> 4;
      }
    }
  }
};

// Q3_K: a half float of the block and sixteen numbers of 6 bits.
struct SixBitScales {
  static void put_header(const PanelBlocks& blocks, uint8_t* out) {
    for (int r = 0; r < kPanelRows; ++r) std::memcpy(out + 2 * r, blocks.at[r] + 108, 2);
  }
  void read(const PanelBlocks&) {}
  void put(const PanelBlocks& blocks, int group, uint8_t* out) const {
    for (int r = 0; r < kPanelRows; ++r) {
      for (int i = 0; i < 2; ++i)
        out[i * kPanelRows + r] = static_cast<uint8_t>(q3_k_scale(blocks.at[r] + 96, 2 * group + i));
    }
  }
};

// IQ4_XS: a half float of the block and eight numbers of 6 bits.
struct Iq4XsScales {
  static void put_header(const PanelBlocks& blocks, uint8_t* out) {
    for (int r = 0; r < kPanelRows; ++r) std::memcpy(out + 2 * r, blocks.at[r], 2);
  }
  void read(const PanelBlocks&) {}
  void put(const PanelBlocks& blocks, int group, uint8_t* out) const {
    for (int r = 0; r < kPanelRows; ++r) out[r] = static_cast<uint8_t>(iq4_xs_scale(blocks.at[r], group));
  }
};

// MXFP4: a power of two.
struct PowerScales {
  static void put_header(const PanelBlocks&, uint8_t*) {}
  void read(const PanelBlocks&) {}
  void put(const PanelBlocks& blocks, int, uint8_t* out) const {
    for (int r = 0; r < kPanelRows; ++r) out[r] = blocks.at[r][0];
  }
};

constexpr uint8_t kNoRow[256] = {};  // a block of any format: scale 0 (of MXFP4: next to none, and codes 0)

template <const PackKind& K, class Scales, void (*Read)(const uint8_t*, int, RowCodes&), bool kFifths = false>
void pack_panels(const WeightView& w, int64_t panel_begin, int64_t panel_end, uint8_t* out) {
  const int block_cols = dtype_info(w.dtype).block_elements, groups = block_cols / 32;
  const int64_t n_blocks = w.cols / block_cols;
  const auto block_bytes = static_cast<int64_t>(row_bytes(w.dtype, block_cols)), stride = n_blocks * block_bytes;
  for (int64_t panel = panel_begin; panel < panel_end; ++panel) {
    const int64_t first = panel * kPanelRows;
    const uint8_t* at = static_cast<const uint8_t*>(w.data) + first * stride;
    uint8_t* to = out + panel * K.panel_bytes(w.cols / 32);
    for (int64_t b = 0; b < n_blocks; ++b, at += block_bytes) {
      PanelBlocks blocks;
      for (int64_t r = 0; r < kPanelRows; ++r) blocks.at[r] = first + r < w.rows ? at + r * stride : kNoRow;
      Scales scales;
      scales.read(blocks);
      scales.put_header(blocks, to);
      to += K.header_bytes();
      for (int group = 0; group < groups; ++group, to += K.block_bytes()) {
        scales.put(blocks, group, to);
        put_codes<Read, K, kFifths>(blocks, group, to);
      }
    }
  }
}

// The wide forms, of what `Read` makes of 32 columns.
template <const PackKind& K, void (*Read)(const uint8_t*, int64_t, Codes&)>
void pack_wide(const WeightView& w, int64_t panel_begin, int64_t panel_end, uint8_t* out) {
  const auto stride = static_cast<int64_t>(row_bytes(w.dtype, w.cols));
  const auto* rows = static_cast<const uint8_t*>(w.data);
  for (int64_t panel = panel_begin; panel < panel_end; ++panel) {
    uint8_t* to = out + panel * K.panel_bytes(w.cols / 32);
    for (int64_t b = 0; b < w.cols / 32; ++b, to += K.block_bytes()) {
      for (int64_t r = 0; r < kPanelRows; ++r) {
        Codes codes = {};
        const int64_t row = panel * kPanelRows + r;
        if (row < w.rows) Read(rows + row * stride, b, codes);
        for (int i = 0; i < K.n_scales; ++i) std::memcpy(to + 64 * i + 4 * r, &codes.scale[i], 4);
        for (int j = 0; j < 8; ++j) std::memcpy(to + K.codes_at() + 64 * j + 4 * r, codes.code + 4 * j, 4);
      }
    }
  }
}

// Numbers that have no panels of their own, as float32.
void pack_as_floats(const WeightView& w, int64_t panel_begin, int64_t panel_end, uint8_t* out) {
  auto* to = reinterpret_cast<float*>(out);
  const auto bytes = static_cast<int64_t>(row_bytes(w.dtype, 1));
  for (int64_t row = panel_begin * kPanelRows; row < panel_end * kPanelRows; ++row) {
    const auto* from = static_cast<const uint8_t*>(w.data) + row * w.cols * bytes;
    for (int64_t c = 0; c < w.cols; ++c) {
      float value = 0;
      if (row < w.rows) kernels::dequantize(w.dtype, from + c * bytes, 1, &value);
      to[(row / kPanelRows * w.cols + c) * kPanelRows + row % kPanelRows] = value;
    }
  }
}

// [cols][kPanelRows] in the file's own type, zeros past the last row.
template <typename T>
void pack_floats(const WeightView& w, int64_t panel_begin, int64_t panel_end, uint8_t* out) {
  constexpr int64_t kStep = 16;  // columns at a time: a tile of both sides stays in the first-level cache
  for (int64_t panel = panel_begin; panel < panel_end; ++panel) {
    const int64_t first = panel * kPanelRows, left = w.rows - first, n_rows = left < kPanelRows ? left : kPanelRows;
    const auto* from = static_cast<const uint8_t*>(w.data) + first * w.cols * static_cast<int64_t>(sizeof(T));
    uint8_t* to = out + first * w.cols * static_cast<int64_t>(sizeof(T));
    for (int64_t c = 0; c < w.cols; c += kStep) {
      const int64_t n = w.cols - c < kStep ? w.cols - c : kStep;
      T tile[kStep][kPanelRows] = {};
      for (int64_t r = 0; r < n_rows; ++r) {
        T row[kStep];
        std::memcpy(row, from + (r * w.cols + c) * static_cast<int64_t>(sizeof(T)), static_cast<size_t>(n) * sizeof(T));
        for (int64_t i = 0; i < n; ++i) tile[i][r] = row[i];
      }
      std::memcpy(to + c * kPanelRows * static_cast<int64_t>(sizeof(T)), tile, static_cast<size_t>(n) * sizeof tile[0]);
    }
  }
}

void pack_file_types(const WeightView& w, int64_t panel_begin, int64_t panel_end, void* out) {
  auto* to = static_cast<uint8_t*>(out);
  const auto pack = [&](auto panels) { panels(w, panel_begin, panel_end, to); };
  switch (w.dtype) {
    case DType::kQ4_0: return pack(pack_panels<kPackQ4_0, HalfScales<kPackQ4_0>, read_nibbles<2>>);
    case DType::kQ4_1: return pack(pack_panels<kPackQ4_1, HalfScales<kPackQ4_1>, read_nibbles<4>>);
    case DType::kQ5_0: return pack(pack_panels<kPackQ5_0, HalfScales<kPackQ5_0>, read_fifths<2>, true>);
    case DType::kQ5_1: return pack(pack_panels<kPackQ5_1, HalfScales<kPackQ5_1>, read_fifths<4>, true>);
    case DType::kQ8_0: return pack(pack_panels<kPackQ8_0, HalfScales<kPackQ8_0>, read_bytes>);
    case DType::kQ4_K: return pack(pack_panels<kPackQ4_K, PairScales, read_q4_k_codes>);
    case DType::kQ5_K: return pack(pack_panels<kPackQ5_K, PairScales, read_q5_k_codes>);
    case DType::kQ6_K: return pack(pack_panels<kPackQ6_K, SignedScales, read_q6_k_codes>);
    case DType::kQ2_K: return pack(pack_panels<kPackQ2_K, NibblePairScales, read_q2_k_codes>);
    case DType::kQ3_K: return pack(pack_panels<kPackQ3_K, SixBitScales, read_q3_k_codes>);
    case DType::kIQ4_NL: return pack(pack_panels<kPackIQ4_NL, HalfScales<kPackIQ4_NL>, read_nibbles<2>>);
    case DType::kIQ4_XS: return pack(pack_panels<kPackIQ4_XS, Iq4XsScales, read_iq4_xs_codes>);
    case DType::kMXFP4: return pack(pack_panels<kPackMXFP4, PowerScales, read_nibbles<1>>);
    case DType::kIQ2_XXS: return pack(pack_wide<kPackWide, read_iq2_xxs>);
    case DType::kIQ3_XXS: return pack(pack_wide<kPackWide, read_iq3_xxs>);
    case DType::kIQ3_S: return pack(pack_wide<kPackWide, read_iq3_s>);
    case DType::kIQ1_S: return pack(pack_wide<kPackWide, read_iq1_s>);
    case DType::kTQ1_0: return pack(pack_wide<kPackWide, read_tq1_0>);
    case DType::kTQ2_0: return pack(pack_wide<kPackWide, read_tq2_0>);
    case DType::kIQ2_XS: return pack(pack_wide<kPackWideHalves, read_iq2_xs>);
    case DType::kIQ2_S: return pack(pack_wide<kPackWideHalves, read_iq2_s>);
    case DType::kIQ1_M: return pack(pack_wide<kPackWideHalves, read_iq1_m>);
    case DType::kNVFP4: return pack(pack_wide<kPackWideHalves, read_nvfp4>);
    case DType::kF64:
    case DType::kI8:
    case DType::kI16:
    case DType::kI32:
    case DType::kI64: return pack(pack_as_floats);
    case DType::kF32: return pack(pack_floats<uint32_t>);
    case DType::kF16:
    case DType::kBF16: return pack(pack_floats<uint16_t>);
    default: return;
  }
}

}  // namespace
FOVEA_KERNEL(pack_file_types)
}  // namespace portable

WeightForm form_of(DType dtype, int64_t cols, Numerics numerics) {
  const bool fast = numerics == Numerics::kFast;
  if (fast && is_float_dtype(dtype) && cols % 64 == 0) return WeightForm::kInt16;
  if (is_float_dtype(panel_float(dtype))) return WeightForm::kFloats;
  return fast && kind_of(dtype).bits > 0 && cols % 32 == 0 ? WeightForm::kInt8 : WeightForm::kFile;
}

size_t packed_bytes(const WeightView& w, Numerics numerics) {
  const int64_t panels = (w.rows + kPanelRows - 1) / kPanelRows;
  switch (form_of(w.dtype, w.cols, numerics)) {
    case WeightForm::kFile: return 0;
    case WeightForm::kFloats: return static_cast<size_t>(panels * kPanelRows) * row_bytes(panel_float(w.dtype), w.cols);
    case WeightForm::kInt8: return static_cast<size_t>(panels * kind_of(w.dtype).panel_bytes(w.cols / 32));
    case WeightForm::kInt16: return static_cast<size_t>(panels) * int16_panel_bytes(w.cols);
  }
  return 0;
}

void pack_weights(const WeightView& w, Numerics numerics, int64_t panel_begin, int64_t panel_end, void* out) {
  const WeightForm form = form_of(w.dtype, w.cols, numerics);
  if (form == WeightForm::kInt16) return pack_int16(w, panel_begin, panel_end, out);
  if (form != WeightForm::kFile) pack_file_types(w, panel_begin, panel_end, out);
}

size_t quantized_bytes(int64_t n_tokens, int64_t cols, WeightForm form) {
  const auto tokens = static_cast<size_t>(n_tokens), n = static_cast<size_t>(cols);
  if (form == WeightForm::kInt16) return tokens * (n * sizeof(int16_t) + n / 64 * sizeof(float));
  return tokens * ((n + 63) / 64 * 64 + n / 32 * sizeof(BlockMeta));
}

// Two packed panels made on the fly and two spread, or two panels of floats, or four of int16.
size_t matmul_scratch_bytes(const WeightView& w) {
  const auto cols = static_cast<size_t>(w.cols), blocks = cols / 32;
  const PackKind kind = kind_of(w.dtype);
  const size_t packed = kind.bits ? (static_cast<size_t>(kind.panel_bytes(w.cols / 32)) + 63) / 64 * 64 : 0;
  const size_t spread = kind.bits ? 2 * blocks * static_cast<size_t>(kind.spread_bytes()) : 0;
  const size_t floats = cols * 2 * kPanelRows * sizeof(float), int16 = 4 * int16_panel_bytes(w.cols);
  return 2 * packed + std::max({spread, floats, int16}) + 64;
}

}  // namespace fovea::kernels

#endif
