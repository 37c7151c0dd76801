#include "fovea/tensor/ops/reduce/softmax.h"

#include <cmath>

#include "fovea/kernels/gradients.h"
#include "fovea/kernels/vector.h"
#include "fovea/tensor/ops/for_rows.h"
#include "fovea/tensor/ops/shape_of.h"
#include "fovea/tensor/tape.h"

namespace fovea::tensor {
namespace {

template <typename Fn>
void for_each_row(const Around& a, const Fn& fn) {
  for_rows(a.outer, a.n, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) fn(r, r * a.n);
  });
}

}  // namespace

Tensor softmax(const Tensor& x) {
  const Around a(x.shape(), -1, "softmax");
  Tensor y = Tensor::empty(x.shape());
  const float* in = x.data();
  float* out = y.data();
  for_each_row(a, [&](int64_t, int64_t at) { kernels::softmax(in + at, a.n, out + at); });
  // dx = y (dy - sum(y dy))
  if (Tape* tape = current_tape()) {
    tape->record(y, {x}, [x = ValueId(x), y, a](Tape& t) {
      const float *p = y.data(), *dy = t.grad(y).data();
      float* dx = t.grad(x).data();
      for_each_row(a, [&](int64_t, int64_t at) {
        const float mean = kernels::dot(p + at, dy + at, a.n);
        for (int64_t i = at; i < at + a.n; ++i) dx[i] += p[i] * (dy[i] - mean);
      });
    });
  }
  return y;
}

Tensor log_softmax(const Tensor& x) {
  const Around a(x.shape(), -1, "log_softmax");
  Tensor y = Tensor::empty(x.shape());
  const float* in = x.data();
  float* out = y.data();
  for_each_row(a, [&](int64_t, int64_t at) {
    float top = 0;
    const float log_sum = std::log(kernels::exp_sum(in + at, a.n, &top));
    for (int64_t i = at; i < at + a.n; ++i) out[i] = (in[i] - top) - log_sum;
  });
  // dx = dy - e^y sum(dy)
  if (Tape* tape = current_tape()) {
    tape->record(y, {x}, [x = ValueId(x), y, a](Tape& t) {
      const float *log_p = y.data(), *dy = t.grad(y).data();
      float* dx = t.grad(x).data();
      for_each_row(a, [&](int64_t, int64_t at) {
        double total = 0;
        for (int64_t i = at; i < at + a.n; ++i) total += dy[i];
        kernels::exp_scaled(log_p + at, a.n, 0.0f, static_cast<float>(-total), true, dx + at);
        kernels::add(dx + at, dy + at, a.n, dx + at);
      });
    });
  }
  return y;
}

Tensor logsumexp(const Tensor& x) {
  const Around a(x.shape(), -1, "logsumexp");
  Tensor y = Tensor::empty(a.without);
  const float* in = x.data();
  float* out = y.data();
  for_each_row(a, [&](int64_t r, int64_t at) { out[r] = kernels::log_sum_exp(in + at, a.n); });
  // dx = e^(x - y) dy
  if (Tape* tape = current_tape()) {
    tape->record(y, {x}, [x, y, a](Tape& t) {
      const float *v = x.data(), *total = y.data(), *dy = t.grad(y).data();
      float* dx = t.grad(x).data();
      for_each_row(a, [&](int64_t r, int64_t at) { kernels::exp_scaled(v + at, a.n, total[r], dy[r], true, dx + at); });
    });
  }
  return y;
}

}  // namespace fovea::tensor
