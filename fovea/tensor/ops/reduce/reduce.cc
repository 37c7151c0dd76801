#include "fovea/tensor/ops/reduce/reduce.h"

#include <cmath>
#include <vector>

#include "fovea/base/check.h"
#include "fovea/tensor/ops/for_rows.h"
#include "fovea/tensor/ops/math/unary.h"
#include "fovea/tensor/ops/shape_of.h"
#include "fovea/tensor/tape.h"

namespace fovea::tensor {
namespace {

// x seen as [outer, n, inner], without its middle: y [outer, inner]. fn(outer, first, last) of the inner columns.
template <typename Fn>
void for_each_outer(const Around& a, const Fn& fn) {
  for_rows(a.outer, a.n * a.inner, [&](int64_t begin, int64_t end) {
    for (int64_t o = begin; o < end; ++o) fn(o);
  });
}

// dx = weight(x, y) dy for every x of the sum that y is of.
template <typename Weight>
void record(const Tensor& y, const Tensor& x, const Around& a, Weight weight) {
  Tape* tape = current_tape();
  if (!tape) return;
  tape->record(y, {x}, [x, y, a, weight](Tape& t) {
    const float *in = x.data(), *out = y.data(), *dy = t.grad(y).data();
    float* dx = t.grad(x).data();
    for_each_outer(a, [&](int64_t o) {
      for (int64_t i = 0; i < a.n * a.inner; ++i) {
        const int64_t at = o * a.n * a.inner + i, to = o * a.inner + i % a.inner;
        dx[at] += weight(in[at], out[to]) * dy[to];
      }
    });
  });
}

// y = sum of f(x), in double: one order, and no rounding that grows with n.
template <typename F>
Tensor summed(const Tensor& x, const Around& a, F f) {
  Tensor y = Tensor::empty(a.without);
  const float* in = x.data();
  float* out = y.data();
  for_each_outer(a, [&](int64_t o) {
    for (int64_t c = 0; c < a.inner; ++c) {
      double total = 0;
      for (int64_t i = 0; i < a.n; ++i) total += f(in[(o * a.n + i) * a.inner + c]);
      out[o * a.inner + c] = static_cast<float>(total);
    }
  });
  return y;
}

}  // namespace

Tensor sum(const Tensor& x, int dim) {
  const Around a(x.shape(), dim, "sum");
  Tensor y = summed(x, a, [](float v) { return double{v}; });
  record(y, x, a, [](float, float) { return 1.0f; });
  return y;
}

Tensor mean(const Tensor& x, int dim) {
  const Around a(x.shape(), dim, "mean");
  return affine(sum(x, dim), 1.0f / static_cast<float>(a.n));
}

Tensor sum(const Tensor& x) { return sum(x.with_shape({x.elements()}), 0).with_shape({1}); }
Tensor mean(const Tensor& x) { return affine(sum(x), 1.0f / static_cast<float>(x.elements())); }

Tensor l2_norm(const Tensor& x, int dim) {
  const Around a(x.shape(), dim, "l2_norm");
  Tensor y = summed(x, a, [](float v) { return double{v} * v; });
  for (int64_t i = 0; i < y.elements(); ++i) y.data()[i] = std::sqrt(y.data()[i]);
  record(y, x, a, [](float v, float norm) { return norm > 0 ? v / norm : 0.0f; });
  return y;
}

Tensor max(const Tensor& x, int dim) {
  const Around a(x.shape(), dim, "max");
  FOVEA_CHECK(a.n > 0, "max: shape {} has nothing in dimension {}", x.shape().to_string(), dim);
  Tensor y = Tensor::empty(a.without);
  std::vector<int64_t> best(static_cast<size_t>(y.elements()));
  const float* in = x.data();
  float* out = y.data();
  for_each_outer(a, [&](int64_t o) {
    for (int64_t c = 0; c < a.inner; ++c) {
      int64_t at = o * a.n * a.inner + c;
      for (int64_t i = 1; i < a.n; ++i) {
        const int64_t other = (o * a.n + i) * a.inner + c;
        if (in[other] > in[at]) at = other;
      }
      best[static_cast<size_t>(o * a.inner + c)] = at;
      out[o * a.inner + c] = in[at];
    }
  });
  if (Tape* tape = current_tape()) {
    tape->record(y, {x}, [x = ValueId(x), y = ValueId(y), best](Tape& t) {
      const float* dy = t.grad(y).data();
      float* dx = t.grad(x).data();
      for (size_t i = 0; i < best.size(); ++i) dx[best[i]] += dy[i];
    });
  }
  return y;
}

}  // namespace fovea::tensor
