#include "fovea/kernels/conv.h"

#include "fovea/kernels/f32.h"

namespace fovea::kernels {
namespace {

constexpr int kPanel = 8;  // rows: nets have multiples of it

}  // namespace

#if FOVEA_ISA_LEVEL == 0
int64_t conv_panels(int64_t outputs) { return (outputs + kPanel - 1) / kPanel; }
size_t conv_packed_floats(int64_t outputs, int64_t k) { return static_cast<size_t>(conv_panels(outputs) * kPanel * k); }
#endif

namespace FOVEA_ISA_NS {
namespace {

constexpr int kLanes = F32::kLanes;

// Vector v of the places, kLanes of them.
template <bool kInRows>
FOVEA_INLINE F32 load_places(const float* x, const int64_t* groups, int64_t v) {
#if FOVEA_ISA_LEVEL == 2
  if constexpr (kInRows) return F32::load(x + groups[2 * v]);
  const __m512 low = _mm512_castps256_ps512(_mm256_loadu_ps(x + groups[2 * v]));
  return {_mm512_insertf32x8(low, _mm256_loadu_ps(x + groups[2 * v + 1]), 1)};
#else
  constexpr int kOfGroup = kPlaceGroup / kLanes;
  return F32::load(x + groups[v / kOfGroup] + v % kOfGroup * kLanes);
#endif
}

void conv_pack(const float* w, int64_t outputs, int64_t k, float* out) {
  for (int64_t first = 0; first < outputs; first += kPanel) {
    for (int64_t j = 0; j < k; ++j) {
      for (int64_t r = 0; r < kPanel; ++r) *out++ = first + r < outputs ? w[(first + r) * k + j] : 0.0f;
    }
  }
}

// kRows rows from row `at` of a panel on, kNV vectors of places.
template <int kRows, int kNV, bool kInRows>
FOVEA_INLINE void conv_tile(const ConvArgs& args, const float* w, const float* bias, bool onto, int64_t v, int n_rows,
                            float* y) {
  const int64_t ld = args.n_groups * kPlaceGroup;
  F32 sums[kRows][kNV];
  FOVEA_UNROLL
  for (int r = 0; r < kRows; ++r) {
    const int row = r < n_rows ? r : 0;
    const F32 begin = F32::all(bias ? bias[row] : 0.0f);
    FOVEA_UNROLL
    for (int i = 0; i < kNV; ++i) sums[r][i] = onto ? F32::load(y + row * ld + (v + i) * kLanes) : begin;
  }
  for (int64_t j = 0; j < args.k; ++j, w += kPanel) {
    F32 x[kNV];
    FOVEA_UNROLL
    for (int i = 0; i < kNV; ++i) x[i] = load_places<kInRows>(args.x + args.offsets[j], args.groups, v + i);
    FOVEA_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const F32 by = F32::all(w[r]);
      FOVEA_UNROLL
      for (int i = 0; i < kNV; ++i) sums[r][i] = mul_add(x[i], by, sums[r][i]);
    }
  }
  FOVEA_UNROLL
  for (int r = 0; r < kRows; ++r) {
    if (r >= n_rows) break;
    FOVEA_UNROLL
    for (int i = 0; i < kNV; ++i) sums[r][i].store(y + r * ld + (v + i) * kLanes);
  }
}

#if FOVEA_ISA_LEVEL == 2
constexpr int kTileRows = 8, kTileVectors = 2;
constexpr int kSlopeOutputs = 4, kSlopeColumns = 6;  // 24 sums, 4 of dy, one of x
#else
constexpr int kTileRows = 4, kTileVectors = 2;
constexpr int kSlopeOutputs = 3, kSlopeColumns = 4;
#endif

template <bool kInRows>
void conv_of(const ConvArgs& args, const float* packed, const float* bias, bool onto, int64_t panel_begin,
             int64_t panel_end, float* y) {
  const int64_t places = args.n_groups * kPlaceGroup;
  for (int64_t row = panel_begin * kPanel; row < panel_end * kPanel && row < args.outputs; row += kTileRows) {
    const int n_rows = static_cast<int>(args.outputs - row < kTileRows ? args.outputs - row : kTileRows);
    const float* w = packed + row / kPanel * kPanel * args.k + row % kPanel;
    for (int64_t v = 0; v < places / kLanes; v += kTileVectors)
      conv_tile<kTileRows, kTileVectors, kInRows>(args, w, bias ? bias + row : nullptr, onto, v, n_rows,
                                                  y + row * places);
  }
}

void conv(const ConvArgs& args, const float* packed, const float* bias, bool onto, int64_t panel_begin,
          int64_t panel_end, float* y) {
  if (args.in_rows) return conv_of<true>(args, packed, bias, onto, panel_begin, panel_end, y);
  conv_of<false>(args, packed, bias, onto, panel_begin, panel_end, y);
}

template <bool kInRows>
void slopes_of(const ConvArgs& args, int64_t n, int64_t x_step, const float* dy, int64_t dy_step, int64_t out_begin,
               int64_t out_end, float* dw) {
  const int64_t places = args.n_groups * kPlaceGroup;
  for (int64_t o = out_begin; o < out_end; o += kSlopeOutputs) {
    for (int64_t j = 0; j < args.k; j += kSlopeColumns) {
      // What is past an edge repeats the last, and is not added.
      int64_t of_dy[kSlopeOutputs], of_x[kSlopeColumns];
      for (int64_t i = 0; i < kSlopeOutputs; ++i) of_dy[i] = (o + i < out_end ? o + i : out_end - 1) * places;
      for (int64_t i = 0; i < kSlopeColumns; ++i) of_x[i] = args.offsets[j + i < args.k ? j + i : args.k - 1];
      F32 sums[kSlopeOutputs][kSlopeColumns];
      FOVEA_UNROLL
      for (int r = 0; r < kSlopeOutputs; ++r) {
        FOVEA_UNROLL
        for (int c = 0; c < kSlopeColumns; ++c) sums[r][c] = F32::zero();
      }
      for (int64_t image = 0; image < n; ++image) {
        const float *x = args.x + image * x_step, *slope = dy + image * dy_step;
        for (int64_t v = 0; v < places / kLanes; ++v) {
          F32 by[kSlopeOutputs];
          FOVEA_UNROLL
          for (int r = 0; r < kSlopeOutputs; ++r) by[r] = F32::load(slope + of_dy[r] + v * kLanes);
          FOVEA_UNROLL
          for (int c = 0; c < kSlopeColumns; ++c) {
            const F32 value = load_places<kInRows>(x + of_x[c], args.groups, v);
            FOVEA_UNROLL
            for (int r = 0; r < kSlopeOutputs; ++r) sums[r][c] = mul_add(by[r], value, sums[r][c]);
          }
        }
      }
      for (int64_t r = 0; r < kSlopeOutputs && o + r < out_end; ++r) {
        for (int64_t c = 0; c < kSlopeColumns && j + c < args.k; ++c) dw[(o + r) * args.k + j + c] += sum(sums[r][c]);
      }
    }
  }
}

void conv_to_weights(const ConvArgs& args, int64_t n, int64_t x_step, const float* dy, int64_t dy_step,
                     int64_t out_begin, int64_t out_end, float* dw) {
  if (args.in_rows) return slopes_of<true>(args, n, x_step, dy, dy_step, out_begin, out_end, dw);
  slopes_of<false>(args, n, x_step, dy, dy_step, out_begin, out_end, dw);
}

}  // namespace
FOVEA_KERNEL(conv_pack)
FOVEA_KERNEL(conv)
FOVEA_KERNEL(conv_to_weights)
}  // namespace FOVEA_ISA_NS
}  // namespace fovea::kernels
