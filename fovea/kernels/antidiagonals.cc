// A lane is a key, and meets the row that stands opposite to it in its cell: where a row of attention spreads one query
// over the lanes, a row of cells has S queries in them, repeated along the page. So S rows cost what one does.
#include "fovea/kernels/antidiagonals.h"

#include "fovea/base/check.h"
#include "fovea/kernels/attention_codes.h"
#include "fovea/kernels/codes.h"
#include "fovea/kernels/page_layout.h"

namespace fovea::kernels {

void check_antidiagonals(const AntidiagonalArgs& args);  // throws; compiled once

#if FOVEA_ISA_LEVEL == 0
void check_antidiagonals(const AntidiagonalArgs& args) {
  FOVEA_CHECK(args.k_dim >= 8 && args.k_dim <= 256 && args.k_dim % 8 == 0,
              "antidiagonals: a head of {} is no multiple of 8 up to 256", args.k_dim);
  FOVEA_CHECK(args.stride > 0 && kPageKeys % args.stride == 0, "antidiagonals: {} does not divide a page of {}",
              args.stride, kPageKeys);
  FOVEA_CHECK(args.scratch && args.sums, "antidiagonals: scratch and sums must be given");
}

size_t antidiagonal_scratch_bytes(const AntidiagonalArgs& args) {
  const auto rows = static_cast<size_t>((args.n_queries + args.stride - 1) / args.stride);
  return rows * static_cast<size_t>(args.k_dim + 1) * kPageKeys * sizeof(float);
}
#endif

namespace FOVEA_ISA_NS {
namespace {

constexpr int kVectors = kPageKeys / kLanes;  // of a page
constexpr int kCellRows = FOVEA_ISA_LEVEL == 2 ? 4 : 2;

// Lanes after which the queries of a row of cells repeat: whole registers of any set.
FOVEA_INLINE int period_of(int stride) { return stride < 16 ? 16 : stride; }

// The queries of a row of cells, one after the other in the lanes that they meet.
FOVEA_INLINE const float* query_of(const AntidiagonalArgs& args, int64_t row, int lane) {
  const int64_t query = row * args.stride + args.stride - 1 - lane % args.stride;
  return query < args.n_queries ? args.q + query * args.ld_q : nullptr;
}

// Pages of floats: keys [k_dim][kPageKeys], queries [k_dim][period].
struct FloatCells {
  const AntidiagonalArgs& args;
  int period;
  float* q;

  explicit FloatCells(const AntidiagonalArgs& a)
      : args(a), period(period_of(a.stride)), q(static_cast<float*>(a.scratch)) {}
  void pack(int64_t row) {
    float* to = q + row * args.k_dim * period;
    for (int lane = 0; lane < period; ++lane) {
      const float* from = query_of(args, row, lane);
      for (int d = 0; d < args.k_dim; ++d) to[d * period + lane] = from ? from[d] * args.scale : 0.0f;
    }
  }
  // Products of R rows of cells with the keys of a page -> out [R][kPageKeys].
  template <int R>
  FOVEA_INLINE void products(int64_t row, const void* page, float* out) const {
    const float* keys = static_cast<const float*>(page);
    const float* from = q + row * args.k_dim * period;
    F32 sums[R][kVectors];
    FOVEA_UNROLL
    for (int r = 0; r < R; ++r) {
      FOVEA_UNROLL
      for (int v = 0; v < kVectors; ++v) sums[r][v] = F32::zero();
    }
    for (int d = 0; d < args.k_dim; ++d) {
      FOVEA_UNROLL
      for (int v = 0; v < kVectors; ++v) {
        const F32 key = F32::load(keys + d * kPageKeys + v * kLanes);
        const int at = d * period + v * kLanes % period;
        FOVEA_UNROLL
        for (int r = 0; r < R; ++r)
          sums[r][v] = mul_add(key, F32::load(from + r * args.k_dim * period + at), sums[r][v]);
      }
    }
    FOVEA_UNROLL
    for (int r = 0; r < R; ++r) {
      FOVEA_UNROLL
      for (int v = 0; v < kVectors; ++v) sums[r][v].store(out + r * kPageKeys + v * kLanes);
    }
  }
};

// Pages of codes: keys [k_dim / 2][kPageKeys][2], queries [k_dim / 2][period][2] with a scale for each.
template <typename Codes>
struct CodeCells {
  const AntidiagonalArgs& args;
  int period;
  int64_t in_row;  // codes
  int16_t* q;
  float* q_scales;  // [rows][period]

  explicit CodeCells(const AntidiagonalArgs& a)
      : args(a), period(period_of(a.stride)), in_row(int64_t{a.k_dim} * period) {
    const int64_t rows = (a.n_queries + a.stride - 1) / a.stride;
    q_scales = static_cast<float*>(a.scratch);
    q = reinterpret_cast<int16_t*>(q_scales + rows * period);
  }
  void pack(int64_t row) {
    int32_t codes[256];
    for (int lane = 0; lane < period; ++lane) {
      const float* from = query_of(args, row, lane);
      const float step = round_query(from, args.k_dim, Codes::kMixed, kQueryCodes<Codes>, codes);
      spread_pairs(codes, args.k_dim, 2 * period, q + row * in_row + 2 * lane);
      q_scales[row * period + lane] = step * args.scale;
    }
  }
  template <int R>
  FOVEA_INLINE void products(int64_t row, const void* page, float* out) const {
    const KeyLayout<Codes> layout(args.k_dim);
    const auto* keys = static_cast<const typename Codes::Code*>(page);
    const auto* scales = reinterpret_cast<const uint16_t*>(static_cast<const char*>(page) + layout.scales);
    constexpr int kStep = kSumPairs<Codes>;
    for (int begin = 0; begin < args.k_dim / 2; begin += kStep) {
      const int end = begin + kStep < args.k_dim / 2 ? begin + kStep : args.k_dim / 2;
      Sums sums[R][kVectors];
      FOVEA_UNROLL
      for (int r = 0; r < R; ++r) {
        FOVEA_UNROLL
        for (int v = 0; v < kVectors; ++v) sums[r][v] = Sums::zero();
      }
      for (int d = begin; d < end; ++d) {
        const int16_t* from = q + row * in_row + 2 * d * period;
        FOVEA_UNROLL
        for (int v = 0; v < kVectors; ++v) {
          const Pairs key = Pairs::load(keys + 2 * (d * kPageKeys + v * kLanes));
          const int16_t* at = from + 2 * (v * kLanes % period);
          FOVEA_UNROLL
          for (int r = 0; r < R; ++r) sums[r][v] = dot_add(key, Pairs::load(at + r * in_row), sums[r][v]);
        }
      }
      float key_scales[kPageKeys];
      const uint16_t* of_group = scales + 2 * begin / Codes::kGroupColumns * kPageKeys;
      for (int i = 0; i < kPageKeys; ++i) key_scales[i] = from_bf16(of_group[i]);
      FOVEA_UNROLL
      for (int v = 0; v < kVectors; ++v) {
        const F32 key_scale = F32::load(key_scales + v * kLanes);
        FOVEA_UNROLL
        for (int r = 0; r < R; ++r) {
          float* to = out + r * kPageKeys + v * kLanes;
          const F32 before = begin == 0 ? F32::zero() : F32::load(to);
          const F32 by = key_scale * F32::load(q_scales + (row + r) * period + v * kLanes % period);
          mul_add(sums[r][v].floats(), by, before).store(to);
        }
      }
    }
  }
};

// Adds up each cell of a page, a tree over its lanes.
FOVEA_INLINE void add_cells(float* lanes, const int32_t* positions, int stride, float* sums) {
  for (int i = 0; i < kPageKeys; ++i) lanes[i] = positions[i] == kNoPosition ? 0.0f : lanes[i];
  for (int n = kPageKeys / 2; n >= kPageKeys / stride; n /= 2) {  // halves the cells, lanes of a cell side by side
    for (int i = 0; i < n; ++i) lanes[i] = lanes[2 * i] + lanes[2 * i + 1];
  }
  for (int c = 0; c < kPageKeys / stride; ++c) sums[c] = lanes[c];
}

template <int R, typename Cells>
void rows_of_cells(const AntidiagonalArgs& args, const Cells& cells, int64_t row) {
  const int in_page = kPageKeys / args.stride;
  const int64_t ld = args.n_blocks * in_page;
  float lanes[R * kPageKeys];
  for (int64_t b = 0; b < args.n_blocks; ++b) {
    cells.template products<R>(row, args.blocks[b].k, lanes);
    for (int r = 0; r < R; ++r)
      add_cells(lanes + r * kPageKeys, args.blocks[b].positions, args.stride, args.sums + (row + r) * ld + b * in_page);
  }
}

template <typename Cells>
void sum_cells(const AntidiagonalArgs& args) {
  Cells cells(args);
  const int64_t n_rows = (args.n_queries + args.stride - 1) / args.stride;
  for (int64_t row = 0; row < n_rows; ++row) cells.pack(row);
  int64_t row = 0;
  for (; row + kCellRows <= n_rows; row += kCellRows) rows_of_cells<kCellRows>(args, cells, row);
  for (; row < n_rows; ++row) rows_of_cells<1>(args, cells, row);
}

void antidiagonal_sums(const AntidiagonalArgs& args) {
  if (args.n_queries == 0) return;
  check_antidiagonals(args);
  switch (args.k_type) {
    case KvType::kF32: return sum_cells<FloatCells>(args);
    case KvType::kI16: return sum_cells<CodeCells<I16Codes>>(args);
    case KvType::kQ8_0: return sum_cells<CodeCells<Q8Codes>>(args);
  }
}

}  // namespace
FOVEA_KERNEL(antidiagonal_sums)
}  // namespace FOVEA_ISA_NS
}  // namespace fovea::kernels
