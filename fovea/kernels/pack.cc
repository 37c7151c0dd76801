#include "fovea/kernels/pack.h"

#include "fovea/kernels/blocks.h"
#include "fovea/kernels/matmul.h"

#if FOVEA_ISA_LEVEL == 0  // bound by memory: one copy is enough

namespace fovea::kernels {
namespace portable {
namespace {

// Round to nearest even; the values were half floats, so nothing is lost.
uint16_t float_to_half(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  const uint32_t sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
  if (magnitude >= 0x7f800000u) return static_cast<uint16_t>(sign | 0x7c00u | (magnitude > 0x7f800000u ? 0x200u : 0u));
  if (magnitude < 0x38800000u) {  // subnormal
    float value;
    std::memcpy(&value, &magnitude, 4);
    return static_cast<uint16_t>(sign | static_cast<uint32_t>(value * 0x1p24f));
  }
  return static_cast<uint16_t>(sign | (magnitude - 0x38000000u) >> 13);
}

void put_scale(uint8_t* at, bool wide, int row, float value) {
  if (wide) {
    std::memcpy(at + row * 4, &value, 4);
  } else {
    const uint16_t half = float_to_half(value);
    std::memcpy(at + row * 2, &half, 2);
  }
}

// The codes of 16 rows, four columns in a word: a step of the packed form is a column of these.
struct PanelCodes {
  uint32_t words[kPanelRows][8];
};

void put_codes(const PackKind& kind, const PanelCodes& panel, uint8_t* block) {
  uint32_t low[8][kPanelRows], high[2][kPanelRows] = {};
  const int n_low = kind.bits == 8 ? 8 : 4;
  for (int r = 0; r < kPanelRows; ++r) {
    const uint32_t* w = panel.words[r];
    if (kind.bits == 8) {
      for (int j = 0; j < 8; ++j) low[j][r] = w[j];
      continue;
    }
    for (int j = 0; j < 4; ++j) low[j][r] = (w[j] & 0x0f0f0f0fu) | (w[j + 4] & 0x0f0f0f0fu) << 4;
    for (int j = 0; j < 8 && kind.bits == 5; ++j) high[0][r] |= (w[j] >> 4 & 0x01010101u) << j;
    for (int j = 0; j < 8 && kind.bits == 6; ++j) high[j / 4][r] |= (w[j] >> 4 & 0x03030303u) << 2 * (j % 4);
  }
  std::memcpy(block + kind.codes_at(), low, size_t{64} * static_cast<size_t>(n_low));
  std::memcpy(block + kind.high_at(), high, static_cast<size_t>(kind.block_bytes() - kind.high_at()));
}

template <void (*Read)(const uint8_t*, int64_t, Codes&)>
void pack_panels(const WeightView& w, const PackKind& kind, int64_t panel_begin, int64_t panel_end, uint8_t* out) {
  const int64_t n_blocks = w.cols / 32;
  const auto stride = static_cast<int64_t>(row_bytes(w.dtype, w.cols));
  for (int64_t panel = panel_begin; panel < panel_end; ++panel) {
    const int64_t first = panel * kPanelRows;
    const int n_rows = static_cast<int>(w.rows - first < kPanelRows ? w.rows - first : kPanelRows);
    for (int64_t b = 0; b < n_blocks; ++b) {
      uint8_t* block = out + (panel * n_blocks + b) * kind.block_bytes();
      PanelCodes codes = {};  // rows past the end are zeros
      if (n_rows < kPanelRows) std::memset(block, 0, static_cast<size_t>(kind.codes_at()));
      for (int r = 0; r < n_rows; ++r) {
        Codes c;
        Read(static_cast<const uint8_t*>(w.data) + (first + r) * stride, b, c);
        for (int s = 0; s < kind.n_scales; ++s) put_scale(block + s * kind.scale_bytes(), kind.wide, r, c.scale[s]);
        if (kind.offset) put_scale(block + kind.n_scales * kind.scale_bytes(), kind.wide, r, c.offset);
        std::memcpy(codes.words[r], c.code, sizeof c.code);
      }
      put_codes(kind, codes, block);
    }
  }
}

void pack_weights(const WeightView& w, int64_t panel_begin, int64_t panel_end, void* out) {
  const PackKind kind = kind_of(w.dtype);
  auto* to = static_cast<uint8_t*>(out);
  switch (w.dtype) {
    case DType::kQ4_0: pack_panels<read_q4_0>(w, kind, panel_begin, panel_end, to); break;
    case DType::kQ4_1: pack_panels<read_q4_1>(w, kind, panel_begin, panel_end, to); break;
    case DType::kQ5_0: pack_panels<read_q5_0>(w, kind, panel_begin, panel_end, to); break;
    case DType::kQ5_1: pack_panels<read_q5_1>(w, kind, panel_begin, panel_end, to); break;
    case DType::kQ8_0: pack_panels<read_q8_0>(w, kind, panel_begin, panel_end, to); break;
    case DType::kQ4_K: pack_panels<read_q4_k>(w, kind, panel_begin, panel_end, to); break;
    case DType::kQ5_K: pack_panels<read_q5_k>(w, kind, panel_begin, panel_end, to); break;
    case DType::kQ6_K: pack_panels<read_q6_k>(w, kind, panel_begin, panel_end, to); break;
    default: break;
  }
}

}  // namespace
FOVEA_KERNEL(pack_weights)
}  // namespace portable

size_t packed_bytes(const WeightView& w) {
  const PackKind kind = kind_of(w.dtype);
  const int64_t panels = (w.rows + kPanelRows - 1) / kPanelRows;
  return kind.bits ? static_cast<size_t>(panels * (w.cols / 32) * kind.block_bytes()) : 0;
}

bool uses_quantized(DType dtype, int64_t cols, Numerics numerics) {
  return numerics == Numerics::kFast && kind_of(dtype).bits > 0 && cols % 32 == 0;
}

size_t quantized_bytes(int64_t n_tokens, int64_t cols) {
  return static_cast<size_t>(n_tokens * ((cols + 63) / 64 * 64)) +
         static_cast<size_t>(n_tokens * (cols / 32)) * sizeof(BlockMeta);
}

// Two packed panels made on the fly and their codes spread to bytes, or a panel of floats with one row.
size_t matmul_scratch_bytes(const WeightView& w) {
  const auto cols = static_cast<size_t>(w.cols);
  const PackKind kind = kind_of(w.dtype);
  const size_t packed = kind.bits ? (cols / 32 * static_cast<size_t>(kind.block_bytes()) + 63) / 64 * 64 : 0;
  const size_t spread = 2 * cols * kPanelRows, floats = cols * (kPanelRows + 1) * sizeof(float);
  return 2 * packed + (spread > floats ? spread : floats) + 64;
}

}  // namespace fovea::kernels

#endif
