#include "fovea/tensor/ops/image/pool.h"

#include <vector>

#include "fovea/base/check.h"
#include "fovea/tensor/ops/for_rows.h"
#include "fovea/tensor/tape.h"

namespace fovea::tensor {
namespace {

// One channel's plane under a window.
struct Planes {
  Planes(const Tensor& x, const Window& window, const char* op)
      : columns(1, x.shape().rank() == 4 ? x.dim(2) : 0, x.shape().rank() == 4 ? x.dim(3) : 0, window, op),
        count(x.dim(0) * x.dim(1)) {
    // A window wholly outside would have no largest.
    FOVEA_CHECK(window.pad.h < window.dilation.h * (window.size.h - 1) + 1 &&
                    window.pad.w < window.dilation.w * (window.size.w - 1) + 1,
                "{}: a pad of {} x {} around windows of {} x {}", op, window.pad.h, window.pad.w, window.size.h,
                window.size.w);
  }
  Columns columns;
  int64_t count;
  Tensor output(const Tensor& x) const { return Tensor::empty({x.dim(0), x.dim(1), columns.out_h, columns.out_w}); }
  // fn(plane) over the threads
  template <typename Fn>
  void each(const Fn& fn) const {
    for_rows(count, columns.rows() * columns.places(), [&](int64_t begin, int64_t end) {
      for (int64_t plane = begin; plane < end; ++plane) fn(plane);
    });
  }
  // fn(place, pixel of the plane) for every pixel that each window sees, places in order
  template <typename Fn>
  void each_pixel(const Fn& fn) const {
    const Window& w = columns.window;
    for (int64_t y = 0; y < columns.out_h; ++y) {
      for (int64_t x = 0; x < columns.out_w; ++x) {
        for (int64_t i = 0; i < w.size.h; ++i) {
          const int64_t line = y * w.stride.h + i * w.dilation.h - w.pad.h;
          if (line < 0 || line >= columns.height) continue;
          for (int64_t j = 0; j < w.size.w; ++j) {
            const int64_t column = x * w.stride.w + j * w.dilation.w - w.pad.w;
            if (column >= 0 && column < columns.width) fn(y * columns.out_w + x, line * columns.width + column);
          }
        }
      }
    }
  }
};

}  // namespace

Tensor max_pool(const Tensor& x, const Window& window) {
  const Planes planes(x, window, "max_pool");
  const int64_t places = planes.columns.places(), pixels = planes.columns.pixels();
  Tensor y = planes.output(x);
  std::vector<int32_t> best(static_cast<size_t>(y.elements()), -1);
  planes.each([&](int64_t plane) {
    const float* in = x.data() + plane * pixels;
    int32_t* at = best.data() + plane * places;
    planes.each_pixel([&](int64_t place, int64_t pixel) {
      if (at[place] < 0 || in[pixel] > in[at[place]]) at[place] = static_cast<int32_t>(pixel);
    });
    for (int64_t i = 0; i < places; ++i) y.data()[plane * places + i] = at[i] < 0 ? 0.0f : in[at[i]];
  });
  if (Tape* tape = current_tape()) {
    tape->record(y, {x}, [planes, best, places, pixels, x = ValueId(x), y = ValueId(y)](Tape& t) {
      const float* dy = t.grad(y).data();
      float* dx = t.grad(x).data();
      planes.each([&](int64_t plane) {
        for (int64_t i = plane * places; i < (plane + 1) * places; ++i)
          if (best[static_cast<size_t>(i)] >= 0) dx[plane * pixels + best[static_cast<size_t>(i)]] += dy[i];
      });
    });
  }
  return y;
}

Tensor mean_pool(const Tensor& x, const Window& window, Outside outside) {
  const Planes planes(x, window, "mean_pool");
  const int64_t places = planes.columns.places(), pixels = planes.columns.pixels();
  std::vector<float> share(static_cast<size_t>(places), 0.0f);  // of a pixel in the mean of its window
  planes.each_pixel([&](int64_t place, int64_t) { share[static_cast<size_t>(place)] += 1; });
  for (float& one : share) {
    const float n = outside == Outside::kCounts ? static_cast<float>(window.size.h * window.size.w) : one;
    one = n > 0 ? 1 / n : 0;
  }
  Tensor y = planes.output(x);
  planes.each([&](int64_t plane) {
    const float* in = x.data() + plane * pixels;
    float* out = y.data() + plane * places;
    for (int64_t i = 0; i < places; ++i) out[i] = 0;
    planes.each_pixel([&](int64_t place, int64_t pixel) { out[place] += in[pixel]; });
    for (int64_t i = 0; i < places; ++i) out[i] *= share[static_cast<size_t>(i)];
  });
  if (Tape* tape = current_tape()) {
    tape->record(y, {x}, [planes, share, places, pixels, x = ValueId(x), y = ValueId(y)](Tape& t) {
      const float* dy = t.grad(y).data();
      float* dx = t.grad(x).data();
      planes.each([&](int64_t plane) {
        planes.each_pixel([&](int64_t place, int64_t pixel) {
          dx[plane * pixels + pixel] += dy[plane * places + place] * share[static_cast<size_t>(place)];
        });
      });
    });
  }
  return y;
}

}  // namespace fovea::tensor
