// Windows that slide over images [batch, channels, height, width]: what convolutions, pools and unfold share.
#pragma once

#include <cstdint>
#include <string_view>

#include "fovea/tensor/tensor.h"

namespace fovea::tensor {

struct HeightWidth {
  HeightWidth(int64_t both) : h(both), w(both) {}  // NOLINT: implicit by design
  HeightWidth(int64_t height, int64_t width) : h(height), w(width) {}
  int64_t h, w;
};

// Place (i, j) of the window at (y, x) is pixel (y stride + i dilation - pad, ...); what lies outside counts as 0.
struct Window {
  HeightWidth size = 1, stride = 1, pad = 0, dilation = 1;
};

// An image as the matrix [channels * size.h * size.w, out_h * out_w] of what each window sees.
struct Columns {
  // A caller's mistake that names `op` where the window does not fit.
  Columns(int64_t channels, int64_t height, int64_t width, const Window& window, std::string_view op);

  int64_t channels, height, width;
  Window window;
  int64_t out_h, out_w;
  int64_t rows() const { return channels * window.size.h * window.size.w; }
  int64_t places() const { return out_h * out_w; }
  int64_t pixels() const { return height * width; }
  bool is_image() const;  // the matrix has the bytes of the image

  void take(const float* image, int64_t row_begin, int64_t row_end, float* matrix) const {
    take(image, row_begin, row_end, matrix, places());
  }
  void take(const float* image, int64_t row_begin, int64_t row_end, float* matrix, int64_t ld) const;  // rows ld apart
  // image += the matrix put back, of some channels; one order of sums.
  void add_back(const float* matrix, int64_t channel_begin, int64_t channel_end, float* image) const;

 private:
  template <typename Fn>
  void each_row(int64_t row, const Fn& fn) const;
  void take_moved(const float* image, int64_t row, float* to) const;
};

}  // namespace fovea::tensor
