#include "fovea/tensor/ops/image/grid_sample.h"

#include <cmath>

#include "fovea/base/check.h"
#include "fovea/tensor/ops/for_rows.h"
#include "fovea/tensor/tape.h"

namespace fovea::tensor {
namespace {

struct GridSizes {
  int64_t batch, channels, height, width, places;
  bool align_corners;
  int64_t pixels() const { return height * width; }
};

// The four pixels around a point, -1 where there is none, and their weights; how the weights go with the point.
struct Corners {
  Corners(const GridSizes& s, const float* point) {
    const auto across = static_cast<float>(s.width), down = static_cast<float>(s.height);
    step_x = (s.align_corners ? across - 1 : across) / 2, step_y = (s.align_corners ? down - 1 : down) / 2;
    const float x = (point[0] + 1) * step_x - (s.align_corners ? 0.0f : 0.5f);
    const float y = (point[1] + 1) * step_y - (s.align_corners ? 0.0f : 0.5f);
    // What is far outside, or no number, is no place that an integer could hold.
    const bool near = x > -2 && x < across + 1 && y > -2 && y < down + 1;
    const float left = near ? std::floor(x) : -2.0f, top = near ? std::floor(y) : -2.0f;
    const float fx = near ? x - left : 0.0f, fy = near ? y - top : 0.0f;
    for (int k = 0; k < 4; ++k) {
      const int64_t column = static_cast<int64_t>(left) + k % 2, line = static_cast<int64_t>(top) + k / 2;
      const bool inside = column >= 0 && column < s.width && line >= 0 && line < s.height;
      const float wx = k % 2 == 1 ? fx : 1 - fx, wy = k / 2 == 1 ? fy : 1 - fy;
      at[k] = inside ? line * s.width + column : -1;
      weight[k] = wx * wy;
      slope_x[k] = (k % 2 == 1 ? wy : -wy) * step_x;
      slope_y[k] = (k / 2 == 1 ? wx : -wx) * step_y;
    }
  }
  float step_x, step_y;
  int64_t at[4];
  float weight[4], slope_x[4], slope_y[4];
};

}  // namespace

Tensor grid_sample(const Tensor& x, const Tensor& grid, bool align_corners) {
  FOVEA_CHECK(x.shape().rank() == 4 && grid.shape().rank() == 4 && grid.dim(0) == x.dim(0) && grid.dim(3) == 2,
              "grid_sample: x {} and grid {}", x.shape().to_string(), grid.shape().to_string());
  const GridSizes s{x.dim(0), x.dim(1), x.dim(2), x.dim(3), grid.dim(1) * grid.dim(2), align_corners};
  Tensor y = Tensor::empty({s.batch, s.channels, grid.dim(1), grid.dim(2)});
  for_rows(s.batch * s.places, 4 * s.channels, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t b = i / s.places, place = i % s.places;
      const Corners corners(s, grid.data() + i * 2);
      for (int64_t c = 0; c < s.channels; ++c) {
        const float* plane = x.data() + (b * s.channels + c) * s.pixels();
        float sum = 0;
        for (int k = 0; k < 4; ++k) sum += corners.at[k] < 0 ? 0.0f : corners.weight[k] * plane[corners.at[k]];
        y.data()[(b * s.channels + c) * s.places + place] = sum;
      }
    }
  });
  if (Tape* tape = current_tape()) {
    tape->record(y, {x, grid}, [s, x, grid, y = ValueId(y)](Tape& t) {
      const float* dy = t.grad(y).data();
      if (t.needs_grad(x)) {  // a plane is one thread's, points in order
        float* dx = t.grad(x).data();
        for_rows(s.batch * s.channels, 4 * s.places, [&](int64_t begin, int64_t end) {
          for (int64_t p = begin; p < end; ++p) {
            for (int64_t i = 0; i < s.places; ++i) {
              const Corners corners(s, grid.data() + (p / s.channels * s.places + i) * 2);
              for (int k = 0; k < 4; ++k)
                if (corners.at[k] >= 0) dx[p * s.pixels() + corners.at[k]] += corners.weight[k] * dy[p * s.places + i];
            }
          }
        });
      }
      if (!t.needs_grad(grid)) return;
      float* dgrid = t.grad(grid).data();
      for_rows(s.batch * s.places, 4 * s.channels, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          const int64_t b = i / s.places, place = i % s.places;
          const Corners corners(s, grid.data() + i * 2);
          float across = 0, down = 0;
          for (int64_t c = 0; c < s.channels; ++c) {
            const int64_t p = b * s.channels + c;
            const float d = dy[p * s.places + place];
            for (int k = 0; k < 4; ++k) {
              const float v = corners.at[k] < 0 ? 0.0f : x.data()[p * s.pixels() + corners.at[k]];
              across += d * v * corners.slope_x[k];
              down += d * v * corners.slope_y[k];
            }
          }
          dgrid[2 * i] += across;
          dgrid[2 * i + 1] += down;
        }
      });
    });
  }
  return y;
}

}  // namespace fovea::tensor
