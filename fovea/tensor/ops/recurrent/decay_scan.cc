#include "fovea/tensor/ops/recurrent/decay_scan.h"

#include <algorithm>
#include <vector>

#include "fovea/base/check.h"
#include "fovea/tensor/ops/for_rows.h"
#include "fovea/tensor/tape.h"

namespace fovea::tensor {
namespace {

// Columns of all samples side by side: fn(sample, first column, last), a column is one task's.
constexpr int64_t kColumns = 64;
template <typename Fn>
void each_part(int64_t batch, int64_t n, int64_t d, const Fn& fn) {
  const int64_t parts = (d + kColumns - 1) / kColumns;
  for_rows(batch * parts, n * std::min(d, kColumns), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) fn(i / parts, i % parts * kColumns, std::min(d, (i % parts + 1) * kColumns));
  });
}

}  // namespace

Tensor decay_scan(const Tensor& x, const Tensor& decay, const Tensor& first) {
  const bool fits = x.shape().rank() == 3 && x.shape() == decay.shape() &&
                    (!first.defined() || first.shape() == Shape({x.dim(0), x.dim(2)}));
  FOVEA_CHECK(fits, "decay_scan: x {}, decay {}, first {}", x.shape().to_string(), decay.shape().to_string(),
              first.shape().to_string());
  const int64_t batch = x.dim(0), n = x.dim(1), d = x.dim(2);
  Tensor y = Tensor::empty(x.shape());
  each_part(batch, n, d, [&](int64_t b, int64_t begin, int64_t end) {
    for (int64_t t = 0; t < n; ++t) {
      const int64_t row = (b * n + t) * d;
      const float* before = t > 0 ? y.data() + row - d : first.defined() ? first.data() + b * d : nullptr;
      const float *in = x.data() + row, *by = decay.data() + row;
      for (int64_t c = begin; c < end; ++c) y.data()[row + c] = (before ? by[c] * before[c] : 0.0f) + in[c];
    }
  });
  // With g[t] = dh[t] + decay[t + 1] g[t + 1]: dx[t] = g[t], ddecay[t] = g[t] h[t - 1]
  if (Tape* tape = current_tape()) {
    tape->record(y, {x, decay, first}, [=, x = ValueId(x)](Tape& t) {
      const float* dy = t.grad(y).data();
      float* dx = t.needs_grad(x) ? t.grad(x).data() : nullptr;
      float* ddecay = t.needs_grad(decay) ? t.grad(decay).data() : nullptr;
      float* dfirst = t.needs_grad(first) ? t.grad(first).data() : nullptr;
      each_part(batch, n, d, [&](int64_t b, int64_t begin, int64_t end) {
        std::vector<float> g(static_cast<size_t>(end - begin), 0.0f);
        for (int64_t step = n; step-- > 0;) {
          const int64_t row = (b * n + step) * d;
          const float* before = step > 0 ? y.data() + row - d : first.defined() ? first.data() + b * d : nullptr;
          for (int64_t c = begin; c < end; ++c) {
            float& here = g[static_cast<size_t>(c - begin)];
            here += dy[row + c];
            if (dx) dx[row + c] += here;
            if (ddecay && before) ddecay[row + c] += here * before[c];
            here *= decay.data()[row + c];
            if (dfirst && step == 0) dfirst[b * d + c] += here;
          }
        }
      });
    });
  }
  return y;
}

}  // namespace fovea::tensor
