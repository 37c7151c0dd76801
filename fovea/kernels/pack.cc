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

template <void (*Read)(const uint8_t*, int64_t, Codes&)>
void pack_panels(const WeightView& w, const PackKind& kind, int64_t panel_begin, int64_t panel_end, uint8_t* out) {
  const int64_t n_blocks = w.cols / 32;
  const auto stride = static_cast<int64_t>(row_bytes(w.dtype, w.cols));
  for (int64_t panel = panel_begin; panel < panel_end; ++panel) {
    for (int64_t b = 0; b < n_blocks; ++b) {
      uint8_t* block = out + (panel * n_blocks + b) * kind.block_bytes();
      std::memset(block, 0, static_cast<size_t>(kind.block_bytes()));
      for (int r = 0; r < kPanelRows; ++r) {
        const int64_t row = panel * kPanelRows + r;
        if (row >= w.rows) break;
        Codes c;
        Read(static_cast<const uint8_t*>(w.data) + row * stride, b, c);
        for (int s = 0; s < kind.n_scales; ++s) put_scale(block + s * kind.scale_bytes(), kind.wide, r, c.scale[s]);
        if (kind.offset) put_scale(block + kind.n_scales * kind.scale_bytes(), kind.wide, r, c.offset);
        for (int i = 0; i < 32; ++i) {
          const int step = i / 4, byte = 4 * r + i % 4;
          if (kind.bits == 8) {
            block[kind.codes_at() + step * 64 + byte] = c.code[i];
            continue;
          }
          uint8_t& low = block[kind.codes_at() + step % 4 * 64 + byte];
          low = static_cast<uint8_t>(low | (c.code[i] & 0xf) << (step < 4 ? 0 : 4));
          if (kind.bits == 5) {
            uint8_t& high = block[kind.high_at() + byte];
            high = static_cast<uint8_t>(high | (c.code[i] >> 4) << step);
          } else if (kind.bits == 6) {
            uint8_t& high = block[kind.high_at() + step / 4 * 64 + byte];
            high = static_cast<uint8_t>(high | (c.code[i] >> 4) << 2 * (step % 4));
          }
        }
      }
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
  return static_cast<size_t>(n_tokens * ((cols + 63) / 64 * 64)) + static_cast<size_t>(n_tokens * (cols / 32)) * sizeof(BlockMeta);
}

// One packed panel made on the fly, its codes spread to bytes, and a panel of floats with one row.
size_t matmul_scratch_bytes(const WeightView& w) {
  const auto cols = static_cast<size_t>(w.cols);
  const PackKind kind = kind_of(w.dtype);
  const size_t packed = kind.bits ? (cols / 32 * static_cast<size_t>(kind.block_bytes()) + 63) / 64 * 64 : 0;
  const size_t spread = cols * kPanelRows, floats = cols * (kPanelRows + 1) * sizeof(float);
  return packed + (spread > floats ? spread : floats) + 64;
}

}  // namespace fovea::kernels

#endif
