#include "fovea/tensor/ops/image/window.h"

#include <algorithm>

#include "fovea/base/check.h"

namespace fovea::tensor {
namespace {

int64_t count_of(int64_t n, int64_t size, int64_t stride, int64_t pad, int64_t dilation) {
  const int64_t left = n + 2 * pad - dilation * (size - 1) - 1;
  return left < 0 ? 0 : left / stride + 1;
}

int64_t ceil_div(int64_t a, int64_t b) { return a <= 0 ? 0 : (a + b - 1) / b; }

}  // namespace

Columns::Columns(int64_t n_channels, int64_t image_height, int64_t image_width, const Window& how, std::string_view op)
    : channels(n_channels), height(image_height), width(image_width), window(how) {
  const bool good = how.size.h > 0 && how.size.w > 0 && how.stride.h > 0 && how.stride.w > 0 && how.pad.h >= 0 &&
                    how.pad.w >= 0 && how.dilation.h > 0 && how.dilation.w > 0;
  FOVEA_CHECK(good, "{}: a window of {} x {} with stride {} x {}, pad {} x {}, dilation {} x {}", op, how.size.h,
              how.size.w, how.stride.h, how.stride.w, how.pad.h, how.pad.w, how.dilation.h, how.dilation.w);
  out_h = count_of(height, how.size.h, how.stride.h, how.pad.h, how.dilation.h);
  out_w = count_of(width, how.size.w, how.stride.w, how.pad.w, how.dilation.w);
  FOVEA_CHECK(out_h > 0 && out_w > 0, "{}: a window of {} x {} does not fit into {} x {} with pad {} x {}", op,
              how.size.h, how.size.w, height, width, how.pad.h, how.pad.w);
}

bool Columns::is_image() const {
  return window.size.h == 1 && window.size.w == 1 && window.stride.h == 1 && window.stride.w == 1 &&
         window.pad.h == 0 && window.pad.w == 0;
}

// fn(at, pixel, x_begin, x_end) for every line of a row: places [x_begin, x_end) of it lie inside the image, the first
// of them at `pixel`; x_begin == x_end: none does.
template <typename Fn>
void Columns::each_row(int64_t row, const Fn& fn) const {
  const int64_t j = row % window.size.w, i = row / window.size.w % window.size.h;
  const int64_t channel = row / (window.size.w * window.size.h);
  const int64_t shift = j * window.dilation.w - window.pad.w;  // the pixel of place 0
  const int64_t begin = std::min(out_w, ceil_div(-shift, window.stride.w));
  const int64_t end = std::clamp(ceil_div(width - shift, window.stride.w), begin, out_w);
  for (int64_t y = 0; y < out_h; ++y) {
    const int64_t line = y * window.stride.h + i * window.dilation.h - window.pad.h;
    const bool inside = line >= 0 && line < height;
    fn(y * out_w, (channel * height + line) * width + begin * window.stride.w + shift, begin, inside ? end : begin);
  }
}

// Windows one pixel apart, as many along a line as it has pixels: a row is its channel moved by some pixels, and zero
// where that comes from another line.
void Columns::take_moved(const float* image, int64_t row, float* to) const {
  const int64_t j = row % window.size.w, i = row / window.size.w % window.size.h;
  const float* channel = image + row / (window.size.w * window.size.h) * pixels();
  const int64_t across = j * window.dilation.w - window.pad.w, down = i * window.dilation.h - window.pad.h;
  const int64_t first_line = std::clamp<int64_t>(-down, 0, out_h),
                last_line = std::clamp(height - down, first_line, out_h);
  const int64_t shift = down * width + across;
  const int64_t begin = std::clamp(-shift, first_line * width, last_line * width);
  const int64_t end = std::clamp(pixels() - shift, begin, last_line * width);
  std::fill_n(to, begin, 0.0f);
  std::copy_n(channel + begin + shift, end - begin, to + begin);
  std::fill_n(to + end, places() - end, 0.0f);
  const int64_t left = std::clamp<int64_t>(-across, 0, width), right = std::clamp<int64_t>(width - across, left, width);
  for (int64_t line = first_line; line < last_line; ++line) {
    for (int64_t x = 0; x < left; ++x) to[line * width + x] = 0.0f;
    for (int64_t x = right; x < width; ++x) to[line * width + x] = 0.0f;
  }
}

void Columns::take(const float* image, int64_t row_begin, int64_t row_end, float* matrix, int64_t ld) const {
  const bool moved = window.stride.h == 1 && window.stride.w == 1 && out_w == width;
  for (int64_t row = row_begin; row < row_end; ++row) {
    float* to = matrix + row * ld;
    if (moved) {
      take_moved(image, row, to);
      continue;
    }
    each_row(row, [&](int64_t at, int64_t pixel, int64_t begin, int64_t end) {
      std::fill_n(to + at, begin, 0.0f);
      if (window.stride.w == 1) {
        std::copy_n(image + pixel, end - begin, to + at + begin);
      } else {
        for (int64_t x = begin; x < end; ++x) to[at + x] = image[pixel + (x - begin) * window.stride.w];
      }
      std::fill_n(to + at + end, out_w - end, 0.0f);
    });
  }
}

void Columns::add_back(const float* matrix, int64_t channel_begin, int64_t channel_end, float* image) const {
  const int64_t size = window.size.h * window.size.w;
  for (int64_t row = channel_begin * size; row < channel_end * size; ++row) {
    const float* from = matrix + row * places();
    each_row(row, [&](int64_t at, int64_t pixel, int64_t begin, int64_t end) {
      for (int64_t x = begin; x < end; ++x) image[pixel + (x - begin) * window.stride.w] += from[at + x];
    });
  }
}

}  // namespace fovea::tensor
