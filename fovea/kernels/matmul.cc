#include "fovea/kernels/matmul.h"

#include "fovea/kernels/matmul_lanes.h"

namespace fovea::kernels {
namespace FOVEA_ISA_NS {
namespace {

template <int T>
struct Count {
  static constexpr int value = T;
};

// fn(Count<n>()), n in 1..T: the number of tokens becomes a constant.
template <int T, typename Fn>
void with_tokens(int n, const Fn& fn) {
  if constexpr (T > 0) {
    if (n == T) {
      fn(Count<T>());
    } else {
      with_tokens<T - 1>(n, fn);
    }
  }
}

// Few tokens read the packed codes directly; from here on spreading them to bytes first pays off.
constexpr int64_t kSpreadFrom = 5;

template <const PackKind& K>
void quantized_matmul(const MatmulArgs& args) {
  const int64_t cols = args.w.cols, n_blocks = cols / 32, ld_q = (cols + 63) / 64 * 64;
  const auto* q = static_cast<const int8_t*>(args.quantized);
  const auto* meta = reinterpret_cast<const BlockMeta*>(q + args.n_tokens * ld_q);
  const int64_t panel_bytes = n_blocks * K.block_bytes();
  auto* own = static_cast<uint8_t*>(args.scratch);
  auto* spread = own + (panel_bytes + 63) / 64 * 64;
  const bool spreads = args.token_end - args.token_begin >= kSpreadFrom;
  for (int64_t row = args.row_begin; row < args.row_end; row += kPanelRows) {
    const int n_rows = static_cast<int>(args.row_end - row < kPanelRows ? args.row_end - row : kPanelRows);
    const uint8_t* panel = own;
    if (args.packed) {
      panel = static_cast<const uint8_t*>(args.packed) + row / kPanelRows * panel_bytes;
    } else {
      WeightView one = args.w;  // this panel alone
      one.rows = args.w.rows - row;
      one.data = static_cast<const uint8_t*>(args.w.data) + row * static_cast<int64_t>(row_bytes(args.w.dtype, cols));
      kernels::pack_weights(one, 0, 1, own);
    }
    if (spreads) spread_panel<K>(panel, n_blocks, spread);
    for (int64_t t = args.token_begin; t < args.token_end;) {
      const int64_t left = args.token_end - t;
      const int n = static_cast<int>(left < kMostTokens ? left : kMostTokens);
      const PanelArgs part{panel, spread, n_blocks, q + t * ld_q, ld_q, meta + t * n_blocks};
      float* y = args.y + t * args.ld_y + row;
      const float* bias = args.bias ? args.bias + row : nullptr;
      with_tokens<kMostTokens>(n, [&](auto count) {
        if (spreads) {
          panel_tile<K, decltype(count)::value, true>(part, y, args.ld_y, bias, n_rows);
        } else if constexpr (decltype(count)::value < kSpreadFrom) {
          panel_tile<K, decltype(count)::value, false>(part, y, args.ld_y, bias, n_rows);
        }
      });
      t += n;
    }
  }
}

void float_matmul(const MatmulArgs& args) {
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
      const int n = static_cast<int>(left < kMostTokens ? left : kMostTokens);
      with_tokens<kMostTokens>(n, [&](auto count) {
        float_tile<decltype(count)::value>(panel, cols, args.x + t * args.ld_x, args.ld_x, args.y + t * args.ld_y + row, args.ld_y,
                                           args.bias ? args.bias + row : nullptr, n_rows);
      });
      t += n;
    }
  }
}

void matmul(const MatmulArgs& args) {
  if (!uses_quantized(args.w.dtype, args.w.cols, args.numerics)) return float_matmul(args);
  switch (args.w.dtype) {
    case DType::kQ4_0: return quantized_matmul<kPackQ4_0>(args);
    case DType::kQ4_1: return quantized_matmul<kPackQ4_1>(args);
    case DType::kQ5_0: return quantized_matmul<kPackQ5_0>(args);
    case DType::kQ5_1: return quantized_matmul<kPackQ5_1>(args);
    case DType::kQ8_0: return quantized_matmul<kPackQ8_0>(args);
    case DType::kQ4_K: return quantized_matmul<kPackQ4_K>(args);
    case DType::kQ5_K: return quantized_matmul<kPackQ5_K>(args);
    case DType::kQ6_K: return quantized_matmul<kPackQ6_K>(args);
    default: return;
  }
}

}  // namespace
FOVEA_KERNEL(matmul)
}  // namespace FOVEA_ISA_NS
}  // namespace fovea::kernels
