#include "fovea/tensor/ops/recurrent/conv1d.h"

#include <algorithm>
#include <vector>

#include "fovea/base/check.h"
#include "fovea/tensor/ops/for_rows.h"
#include "fovea/tensor/tape.h"

namespace fovea::tensor {
namespace {

struct ConvSizes {
  int64_t batch, n, channels, size, before;
};

// w turned, so that a place of the window is a row over the channels.
std::vector<float> turned(const ConvSizes& s, const Tensor& w) {
  std::vector<float> out(static_cast<size_t>(s.size * s.channels));
  for (int64_t i = 0; i < w.elements(); ++i)
    out[static_cast<size_t>(i % s.size * s.channels + i / s.size)] = w.data()[i];
  return out;
}

}  // namespace

Tensor depthwise_conv1d(const Tensor& x, const Tensor& w, const Tensor& bias, int64_t before) {
  const bool fits = x.shape().rank() == 3 && w.shape().rank() == 2 && w.dim(0) == x.dim(2) && w.dim(1) > 0 &&
                    (!bias.defined() || bias.shape() == Shape({w.dim(0)})) && before >= 0 && before < w.dim(1);
  FOVEA_CHECK(fits, "depthwise_conv1d: x {}, w {}, bias {}, {} before", x.shape().to_string(), w.shape().to_string(),
              bias.shape().to_string(), before);
  const ConvSizes s{x.dim(0), x.dim(1), x.dim(2), w.dim(1), before};
  const std::vector<float> rows = turned(s, w);
  Tensor y = Tensor::empty(x.shape());
  for_rows(s.batch * s.n, s.channels * s.size, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t t = r % s.n, first = (r - t) * s.channels;
      float* out = y.data() + r * s.channels;
      for (int64_t c = 0; c < s.channels; ++c) out[c] = bias.defined() ? bias.data()[c] : 0.0f;
      for (int64_t j = 0; j < s.size; ++j) {
        const int64_t at = t + j - s.before;
        if (at < 0 || at >= s.n) continue;
        const float *in = x.data() + first + at * s.channels, *by = rows.data() + j * s.channels;
        for (int64_t c = 0; c < s.channels; ++c) out[c] += by[c] * in[c];
      }
    }
  });
  if (Tape* tape = current_tape()) {
    tape->record(y, {x, w, bias}, [s, x, w, bias = ValueId(bias), y = ValueId(y)](Tape& t) {
      const float* dy = t.grad(y).data();
      if (t.needs_grad(x)) {
        float* dx = t.grad(x).data();
        const std::vector<float> by_row = turned(s, w);
        for_rows(s.batch * s.n, s.channels * s.size, [&](int64_t begin, int64_t end) {
          for (int64_t r = begin; r < end; ++r) {
            const int64_t step = r % s.n, first = (r - step) * s.channels;
            for (int64_t j = 0; j < s.size; ++j) {
              const int64_t at = step - j + s.before;
              if (at < 0 || at >= s.n) continue;
              const float *d = dy + first + at * s.channels, *by = by_row.data() + j * s.channels;
              for (int64_t c = 0; c < s.channels; ++c) dx[r * s.channels + c] += by[c] * d[c];
            }
          }
        });
      }
      float* dw = t.needs_grad(w) ? t.grad(w).data() : nullptr;
      float* db = t.needs_grad(bias) ? t.grad(bias).data() : nullptr;
      for_columns(s.channels, s.batch * s.n * s.size, [&](int64_t begin, int64_t end) {  // rows in rising order
        std::vector<float> sums(static_cast<size_t>((end - begin) * s.size), 0.0f);
        for (int64_t r = 0; r < s.batch * s.n && (dw || db); ++r) {
          const float* d = dy + r * s.channels;
          for (int64_t c = begin; c < end && db; ++c) db[c] += d[c];
          for (int64_t j = 0; j < s.size && dw; ++j) {
            const int64_t step = r % s.n, at = step + j - s.before;
            if (at < 0 || at >= s.n) continue;
            const float* in = x.data() + (r - step + at) * s.channels;
            float* to = sums.data() + j * (end - begin);
            for (int64_t c = begin; c < end; ++c) to[c - begin] += d[c] * in[c];
          }
        }
        for (int64_t c = begin; c < end && dw; ++c) {
          for (int64_t j = 0; j < s.size; ++j)
            dw[c * s.size + j] += sums[static_cast<size_t>(j * (end - begin) + c - begin)];
        }
      });
    });
  }
  return y;
}

}  // namespace fovea::tensor
