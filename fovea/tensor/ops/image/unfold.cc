#include "fovea/tensor/ops/image/unfold.h"

#include <algorithm>

#include "fovea/base/check.h"
#include "fovea/tensor/ops/for_rows.h"
#include "fovea/tensor/tape.h"

namespace fovea::tensor {
namespace {

// to = (or +=) the columns of every image.
void take_all(const Columns& c, int64_t batch, const float* x, bool add, float* to) {
  const int64_t rows = c.rows(), places = c.places();
  Tensor part;  // rows of its own where they are added
  if (add) part = Tensor::empty({batch, rows, places});
  float* out = add ? part.data() : to;
  for_rows(batch * rows, places, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t image = r / rows, row = r % rows;
      c.take(x + image * c.channels * c.pixels(), row, row + 1, out + image * rows * places);
      for (int64_t i = r * places; i < (r + 1) * places && add; ++i) to[i] += out[i];
    }
  });
}

void add_all(const Columns& c, int64_t batch, const float* columns, float* x) {
  for_rows(batch * c.channels, c.rows() / c.channels * c.places(), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t image = r / c.channels, channel = r % c.channels;
      c.add_back(columns + image * c.rows() * c.places(), channel, channel + 1, x + image * c.channels * c.pixels());
    }
  });
}

}  // namespace

Tensor unfold(const Tensor& x, const Window& window) {
  FOVEA_CHECK(x.shape().rank() == 4, "unfold: x {}, wanted [batch, channels, height, width]", x.shape().to_string());
  const Columns c(x.dim(1), x.dim(2), x.dim(3), window, "unfold");
  const int64_t batch = x.dim(0);
  Tensor y = Tensor::empty({batch, c.rows(), c.places()});
  take_all(c, batch, x.data(), false, y.data());
  if (Tape* tape = current_tape()) {
    tape->record(y, {x}, [c, batch, x = ValueId(x), y = ValueId(y)](Tape& t) {
      const float* dy = t.grad(y).data();
      add_all(c, batch, dy, t.grad(x).data());
    });
  }
  return y;
}

Tensor fold(const Tensor& columns, HeightWidth image, const Window& window) {
  const int64_t size = window.size.h * window.size.w;
  FOVEA_CHECK(columns.shape().rank() == 3 && size > 0 && columns.dim(1) % size == 0,
              "fold: columns {} are not [batch, channels * {}, places]", columns.shape().to_string(), size);
  const Columns c(columns.dim(1) / size, image.h, image.w, window, "fold");
  FOVEA_CHECK(columns.dim(2) == c.places(), "fold: columns {} of {} places", columns.shape().to_string(), c.places());
  const int64_t batch = columns.dim(0);
  Tensor y = Tensor::zeros({batch, c.channels, image.h, image.w});
  add_all(c, batch, columns.data(), y.data());
  if (Tape* tape = current_tape()) {
    tape->record(y, {columns}, [c, batch, x = ValueId(columns), y = ValueId(y)](Tape& t) {
      const float* dy = t.grad(y).data();
      take_all(c, batch, dy, true, t.grad(x).data());
    });
  }
  return y;
}

}  // namespace fovea::tensor
