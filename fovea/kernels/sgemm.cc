#include "fovea/kernels/sgemm.h"

#include "fovea/base/check.h"
#include "fovea/kernels/sgemm_tile.h"

#if FOVEA_ISA_LEVEL == 0
#include <algorithm>
#include <cstddef>
#include <new>

#include "fovea/base/threads.h"
#endif

namespace fovea::kernels {

#if FOVEA_ISA_LEVEL == 0  // not a kernel: shares the work out
namespace {

// Packed matrices of the last product of this thread: they only grow, so that steady state never reaches the heap.
class Packed {
 public:
  Packed() = default;
  Packed(const Packed&) = delete;
  Packed& operator=(const Packed&) = delete;
  ~Packed() { ::operator delete(data_, kAlignment); }
  float* at_least(int64_t floats) {
    if (floats > size_) {
      ::operator delete(data_, kAlignment);
      data_ = nullptr, size_ = 0;
      data_ = static_cast<float*>(::operator new(static_cast<size_t>(floats) * sizeof(float), kAlignment));
      size_ = floats;
    }
    return data_;
  }

 private:
  static constexpr std::align_val_t kAlignment{64};
  float* data_ = nullptr;
  int64_t size_ = 0;
};

int64_t panels_of(int64_t n, int64_t width) { return (n + width - 1) / width; }

constexpr int64_t kMostSteps = 4096;        // of k that are packed at once
constexpr int64_t kPackedFloats = 1 << 21;  // of one side: both stay in a third-level cache
constexpr int64_t kRowPanels = 16;          // of a task: 200 KB of A in a second-level cache
constexpr int64_t kColPanels = 8;
constexpr int64_t kLeastWork = 128 * 1024;  // multiplications that are worth a task

void check(const SgemmArgs& g) {
  FOVEA_CHECK(g.m >= 0 && g.n >= 0 && g.k >= 0 && g.ld_a >= (g.a_transposed ? g.m : g.k) &&
                  g.ld_b >= (g.b_transposed ? g.k : g.n) && g.ld_c >= g.n,
              "sgemm: [{}, {}] times [{}, {}] with rows {}, {} and {} apart", g.m, g.k, g.k, g.n, g.ld_a, g.ld_b,
              g.ld_c);
}

// A part of the product whose packed sides fit the buffers.
void do_part(const SgemmPanels& rows, const SgemmPanels& cols, const SgemmTile& tile, SgemmBlock block) {
  thread_local Packed a, b;
  const int64_t row_panels = panels_of(rows.count, tile.rows), col_panels = panels_of(cols.count, tile.cols);
  float* packed_a = a.at_least(row_panels * tile.rows * rows.k);
  float* packed_b = b.at_least(col_panels * tile.cols * rows.k);
  const int64_t all_panels = row_panels + col_panels;
  const int64_t least = std::max<int64_t>(1, kLeastWork / 8 / std::max<int64_t>(1, tile.cols * rows.k));
  const int64_t step = std::max(least, panels_of(all_panels, 8 * pool().size()));
  pool().for_each(panels_of(all_panels, step), [&](int64_t task, int) {
    const int64_t begin = task * step, end = std::min(all_panels, begin + step);
    if (begin < row_panels) sgemm_pack(rows, begin, std::min(end, row_panels), packed_a);
    if (end > row_panels) sgemm_pack(cols, std::max(begin, row_panels) - row_panels, end - row_panels, packed_b);
  });
  block.a = packed_a, block.b = packed_b;
  // Small tasks where there are few, so that every thread has some.
  int64_t height = std::min(kRowPanels, row_panels), width = std::min(kColPanels, col_panels);
  const int64_t panel_work = tile.rows * tile.cols * std::max<int64_t>(1, rows.k);
  const auto tasks = [&] { return panels_of(row_panels, height) * panels_of(col_panels, width); };
  while (tasks() < 4 * pool().size() && height * width > 1 && height * width * panel_work > kLeastWork) {
    (height > 2 * width || width == 1 ? height : width) /= 2;
    height = std::max<int64_t>(1, height), width = std::max<int64_t>(1, width);
  }
  const int64_t row_tasks = panels_of(row_panels, height);
  pool().for_each(tasks(), [&](int64_t task, int) {
    SgemmBlock part = block;
    part.row_begin = task % row_tasks * height;
    part.row_end = std::min(row_panels, part.row_begin + height);
    part.col_begin = task / row_tasks * width;
    part.col_end = std::min(col_panels, part.col_begin + width);
    sgemm_block(part);
  });
}

}  // namespace

void sgemm(const SgemmArgs& g) {
  check(g);
  if (g.m == 0 || g.n == 0) return;
  const SgemmTile tile = sgemm_tile();
  const int64_t steps = std::min(g.k, kMostSteps);
  const int64_t floats = kPackedFloats / std::max<int64_t>(1, steps);
  const int64_t most_rows = std::max<int64_t>(1, floats / tile.rows) * tile.rows;
  const int64_t most_cols = std::max<int64_t>(1, floats / tile.cols) * tile.cols;
  int64_t p = 0;
  do {  // once where k is 0: C becomes zeros and bias
    const int64_t k = std::min(g.k - p, kMostSteps);
    for (int64_t i = 0; i < g.m; i += most_rows) {
      const SgemmPanels rows{.x = g.a + (g.a_transposed ? p * g.ld_a + i : i * g.ld_a + p),
                             .step = g.a_transposed ? 1 : g.ld_a,
                             .ld = g.a_transposed ? g.ld_a : 1,
                             .count = std::min(g.m - i, most_rows),
                             .k = k,
                             .is_a = true};
      for (int64_t j = 0; j < g.n; j += most_cols) {
        const SgemmPanels cols{.x = g.b + (g.b_transposed ? j * g.ld_b + p : p * g.ld_b + j),
                               .step = g.b_transposed ? g.ld_b : 1,
                               .ld = g.b_transposed ? 1 : g.ld_b,
                               .count = std::min(g.n - j, most_cols),
                               .k = k,
                               .is_a = false};
        SgemmBlock block{};
        block.k = k, block.m = rows.count, block.n = cols.count;
        block.c = g.c + i * g.ld_c + j;
        block.ld_c = g.ld_c;
        block.accumulate = g.accumulate || p > 0;
        block.bias = g.bias && p + k == g.k ? g.bias + j : nullptr;
        do_part(rows, cols, tile, block);
      }
    }
    p += k;
  } while (p < g.k);
}
#endif

namespace FOVEA_ISA_NS {
namespace {

SgemmTile sgemm_tile() { return {kRows, kCols}; }

template <int kWidth>
int64_t padded(int64_t n) {
  return (n + kWidth - 1) / kWidth * kWidth;
}

template <int kWidth>
void pack_panels(const SgemmPanels& g, int64_t begin, int64_t end, float* out) {
  for (int64_t panel = begin; panel < end; ++panel) {
    const int64_t first = panel * kWidth, left = g.count - first;
    for (int64_t p = 0; p < g.k; p += kSteps) {
      const int64_t steps = g.k - p < kSteps ? g.k - p : kSteps;
      pack_panel<kWidth>(g.x + first * g.step + p * g.ld, g.step, g.ld, static_cast<int>(left < kWidth ? left : kWidth),
                         steps, out + p * padded<kWidth>(g.count) + first * steps);
    }
  }
}

void sgemm_pack(const SgemmPanels& g, int64_t begin, int64_t end, float* out) {
  if (g.is_a) return pack_panels<kRows>(g, begin, end, out);
  pack_panels<kCols>(g, begin, end, out);
}

void add_bias(const SgemmBlock& g) {
  const int64_t m = g.row_end * kRows < g.m ? g.row_end * kRows : g.m;
  const int64_t n = g.col_end * kCols < g.n ? g.col_end * kCols : g.n;
  for (int64_t i = g.row_begin * kRows; i < m; ++i) {
    for (int64_t j = g.col_begin * kCols; j < n; ++j) g.c[i * g.ld_c + j] += g.bias[j];
  }
}

void sgemm_block(const SgemmBlock& g) {
  int64_t p = 0;
  do {
    const int64_t steps = g.k - p < kSteps ? g.k - p : kSteps;
    const bool from_c = g.accumulate || p > 0;
    for (int64_t col = g.col_begin; col < g.col_end; ++col) {
      const float* b = g.b + p * padded<kCols>(g.n) + col * kCols * steps;
      const int64_t cols = g.n - col * kCols;
      for (int64_t row = g.row_begin; row < g.row_end; ++row) {
        const float* a = g.a + p * padded<kRows>(g.m) + row * kRows * steps;
        const int64_t rows = g.m - row * kRows;
        float* c = g.c + row * kRows * g.ld_c + col * kCols;
        if (rows >= kRows && cols >= kCols) {
          tile_product(a, kRows, b, kCols, steps, c, g.ld_c, from_c);
        } else {
          edge_product(a, kRows, b, kCols, steps, c, g.ld_c, from_c, static_cast<int>(rows < kRows ? rows : kRows),
                       static_cast<int>(cols < kCols ? cols : kCols));
        }
      }
    }
    p += steps;
  } while (p < g.k);
  if (g.bias) add_bias(g);
}

}  // namespace
FOVEA_KERNEL(sgemm_tile)
FOVEA_KERNEL(sgemm_pack)
FOVEA_KERNEL(sgemm_block)
}  // namespace FOVEA_ISA_NS
}  // namespace fovea::kernels
