#include "fovea/kernels/matmul.h"

#include "fovea/kernels/float_panels.h"
#include "fovea/kernels/int16_panels.h"
#include "fovea/kernels/matmul_halves.h"
#include "fovea/kernels/matmul_lanes.h"
#include "fovea/kernels/with_tokens.h"

namespace fovea::kernels {
namespace FOVEA_ISA_NS {
namespace {

// Few tokens read the packed codes directly; from here on spreading them to bytes first pays off.
constexpr int64_t kSpreadFrom = kDirectTokens + 1;

template <const PackKind& K>
struct QuantizedMatmul {
  const MatmulArgs& args;
  int64_t cols = args.w.cols, n_blocks = cols / 32, ld_q = (cols + 63) / 64 * 64;
  const int8_t* q = static_cast<const int8_t*>(args.quantized);
  const BlockMeta* meta = reinterpret_cast<const BlockMeta*>(q + args.n_tokens * ld_q);
  int64_t panel_bytes = K.panel_bytes(n_blocks);
  int64_t own_bytes = (panel_bytes + 63) / 64 * 64;
  uint8_t* own = static_cast<uint8_t*>(args.scratch);  // two panels packed on the fly, then two spread
  uint8_t* spread = own + 2 * own_bytes;

  const uint8_t* panel_at(int64_t row, uint8_t* room) const {
    if (args.packed) return static_cast<const uint8_t*>(args.packed) + row / kPanelRows * panel_bytes;
    WeightView one = args.w;  // this panel alone
    one.rows = args.w.rows - row;
    one.data = static_cast<const uint8_t*>(args.w.data) + row * static_cast<int64_t>(row_bytes(args.w.dtype, cols));
    kernels::pack_file_types(one, 0, 1, room);
    return room;
  }
  PanelArgs part(const uint8_t* panel, const uint8_t* codes, int64_t ld, int64_t t) const {
    return {panel, codes, ld, n_blocks, q + t * ld_q, ld_q, meta + t * n_blocks};
  }
  // Tokens [from, token_end) of one panel.
  void panel(const uint8_t* packed, const uint8_t* codes, int64_t ld, int64_t row, int64_t from) const {
    for (int64_t t = from; t < args.token_end;) {
      const int64_t left = args.token_end - t;
      const int n = static_cast<int>(left < kTileTokens ? left : kTileTokens);
      const Out out = out_of(args, row, t);
      with_tokens<kTileTokens>(n, [&](auto count) {
        if (codes) {
          spread_tile<K, decltype(count)::value>(part(packed, codes, ld, t), out);
        } else if constexpr (decltype(count)::value < kSpreadFrom) {
          direct_tile<K, decltype(count)::value>(part(packed, codes, ld, t), out);
        }
      });
      t += n;
    }
  }
#if FOVEA_ISA_LEVEL == 2
  // Two panels beside each other: `second` is this product or the one that it gates. Returns the first token not done.
  int64_t pair(const uint8_t* (&packed)[2], const QuantizedMatmul& second, int64_t row) const {
    constexpr int64_t kSecond = Spread<K>::kind.spread_bytes(), kLd = 2 * kSecond;
    for (int p = 0; p < 2; ++p) spread_any<K>(packed[p], n_blocks, spread + p * kSecond, kLd);
    int64_t t = args.token_begin;
    for (; t + kPairTokens <= args.token_end; t += kPairTokens) {
      Out out = out_of(args, row, t, 2 * kPanelRows);
      if (&second != this) out.gates = true, out.second_bias = second.args.bias ? second.args.bias + row : nullptr;
      spread_pair<K>(part(packed[0], spread, kLd, t), out);
    }
    panel(packed[0], spread, kLd, row, t);
    const int64_t second_row = &second == this ? row + kPanelRows : row;
    second.panel(packed[1], spread + kSecond, kLd, second_row, t);
    return t;
  }
  // With the product that it gates, of the same kind.
  void run_gated(const QuantizedMatmul& up) const {
    for (int64_t row = args.row_begin; row < args.row_end; row += kPanelRows) {
      const uint8_t* packed[2] = {panel_at(row, own), up.panel_at(row, own + own_bytes)};
      const int64_t n = args.row_end - row < kPanelRows ? args.row_end - row : kPanelRows;
      for (int64_t t = pair(packed, up, row); t < args.token_end; ++t) {
        float* y = args.y + t * args.ld_y + row;
        kernels::activate_gate(args.act, y, up.args.y + t * up.args.ld_y + row, n, y);
      }
    }
  }
#endif
  void run() const {
    const bool spreads = args.token_end - args.token_begin >= kSpreadFrom;
    int64_t row = args.row_begin;
#if FOVEA_ISA_LEVEL == 2
    for (; spreads && args.row_end - row > kPanelRows; row += 2 * kPanelRows) {
      const uint8_t* packed[2] = {panel_at(row, own), panel_at(row + kPanelRows, own + own_bytes)};
      pair(packed, *this, row);
    }
#endif
    for (; row < args.row_end; row += kPanelRows) {
      const uint8_t* packed = panel_at(row, own);
      if (spreads) spread_any<K>(packed, n_blocks, spread, K.spread_bytes());
      panel(packed, spreads ? spread : nullptr, K.spread_bytes(), row, args.token_begin);
    }
  }
};

template <const PackKind& K>
void quantized_matmul(const MatmulArgs& args) {
  const QuantizedMatmul<K> product{args};
#if FOVEA_ISA_LEVEL == 2
  if (args.up) return product.run_gated({*args.up});
#endif
  product.run();
}

void float_matmul(const MatmulArgs& args) {
  if (args.packed) return float_panels_matmul(args);
  const int64_t cols = args.w.cols;
  auto* panel = static_cast<float*>(args.scratch);
  float* one_row = panel + cols * kPanelRows;
  const auto stride = static_cast<int64_t>(row_bytes(args.w.dtype, cols));
  for (int64_t row = args.row_begin; row < args.row_end; row += kPanelRows) {
    const int n_rows = static_cast<int>(args.row_end - row < kPanelRows ? args.row_end - row : kPanelRows);
    for (int r = 0; r < kPanelRows; ++r) {
      if (r >= n_rows) {
        for (int64_t c = 0; c < cols; ++c) panel[c * kPanelRows + r] = 0;
        continue;
      }
      const uint8_t* from = static_cast<const uint8_t*>(args.w.data) + (row + r) * stride;
      kernels::dequantize(args.w.dtype, from, cols, one_row);
      for (int64_t c = 0; c < cols; ++c) panel[c * kPanelRows + r] = one_row[c];
    }
    for (int64_t t = args.token_begin; t < args.token_end;) {
      const int64_t left = args.token_end - t;
      const int n = static_cast<int>(left < kTileTokens ? left : kTileTokens);
      with_tokens<kTileTokens>(n, [&](auto count) {
        float_tile<decltype(count)::value>(panel, cols, args.x + t * args.ld_x, args.ld_x, out_of(args, row, t));
      });
      t += n;
    }
  }
}

void int16_matmul(const MatmulArgs& args) {
  const Int16Matmul product(args);
#if FOVEA_ISA_LEVEL == 2
  if (args.up) return product.run_gated(*args.up);
#endif
  product.run();
}

void product(const MatmulArgs& args) {
  const WeightForm form = form_of(args.w.dtype, args.w.cols, args.numerics);
  if (form == WeightForm::kInt16) return int16_matmul(args);
  if (form != WeightForm::kInt8) return float_matmul(args);
  switch (args.w.dtype) {
    case DType::kQ4_0: return quantized_matmul<kPackQ4_0>(args);
    case DType::kQ4_1: return quantized_matmul<kPackQ4_1>(args);
    case DType::kQ5_0: return quantized_matmul<kPackQ5_0>(args);
    case DType::kQ5_1: return quantized_matmul<kPackQ5_1>(args);
    case DType::kQ8_0: return quantized_matmul<kPackQ8_0>(args);
    case DType::kQ4_K: return quantized_matmul<kPackQ4_K>(args);
    case DType::kQ5_K: return quantized_matmul<kPackQ5_K>(args);
    case DType::kQ6_K: return quantized_matmul<kPackQ6_K>(args);
    case DType::kQ2_K: return quantized_matmul<kPackQ2_K>(args);
    case DType::kQ3_K: return quantized_matmul<kPackQ3_K>(args);
    case DType::kIQ4_NL: return quantized_matmul<kPackIQ4_NL>(args);
    case DType::kIQ4_XS: return quantized_matmul<kPackIQ4_XS>(args);
    case DType::kMXFP4: return quantized_matmul<kPackMXFP4>(args);
    default: break;
  }
  if (kind_of(args.w.dtype).n_scales == 1) return quantized_matmul<kPackWide>(args);
  quantized_matmul<kPackWideHalves>(args);
}

// Whether both products of a gate can be made beside each other, and gated before they are stored.
bool gates_in_tiles(const MatmulArgs& gate, const MatmulArgs& up) {
  const bool alike = gate.w.dtype == up.w.dtype && gate.w.cols == up.w.cols && gate.quantized == up.quantized;
  return FOVEA_ISA_LEVEL == 2 && alike && gate.act == Activation::kSilu && !gate.residual && !up.residual &&
         gate.token_end - gate.token_begin >= kSpreadFrom &&
         takes_codes(form_of(gate.w.dtype, gate.w.cols, gate.numerics));
}

void matmul(const MatmulArgs& args) {
  if (!args.up) return product(args);
  MatmulArgs up = *args.up, gate = args;
  up.row_begin = args.row_begin, up.row_end = args.row_end;
  up.token_begin = args.token_begin, up.token_end = args.token_end;
  up.scratch = args.scratch;
  gate.up = gates_in_tiles(args, up) ? &up : nullptr;
  product(gate);
  if (gate.up) return;
  product(up);
  for (int64_t t = args.token_begin; t < args.token_end; ++t) {
    float* y = args.y + t * args.ld_y + args.row_begin;
    kernels::activate_gate(args.act, y, up.y + t * up.ld_y + args.row_begin, args.row_end - args.row_begin, y);
  }
}

}  // namespace
FOVEA_KERNEL(matmul)
FOVEA_KERNEL(pack_int16)
FOVEA_KERNEL(quantize_columns16)
}  // namespace FOVEA_ISA_NS
}  // namespace fovea::kernels
