#include "fovea/tensor/ops/product/batched.h"

#include <algorithm>
#include <utility>

#include "fovea/base/check.h"
#include "fovea/base/threads.h"
#include "fovea/kernels/sgemm.h"
#include "fovea/tensor/ops/shape_of.h"
#include "fovea/tensor/tape.h"

namespace fovea::tensor {
namespace {

struct Matrices {
  const float* data;
  int64_t rows, cols;  // as stored
  bool transposed;
  int64_t height() const { return transposed ? cols : rows; }
  int64_t width() const { return transposed ? rows : cols; }
  Matrices turned() const { return {data, rows, cols, !transposed}; }
};

Matrices matrices(const Tensor& t, bool transposed) { return {t.data(), t.dim(-2), t.dim(-1), transposed}; }

// y[i] = a[i] b[i], or added to y. Many small products go beside each other, few large ones share the threads.
void product(int64_t count, const Matrices& a, const Matrices& b, bool accumulate, float* y) {
  const auto one = [&](int64_t i, int) {
    kernels::sgemm({.m = a.height(),
                    .n = b.width(),
                    .k = a.width(),
                    .a = a.data + i * a.rows * a.cols,
                    .ld_a = a.cols,
                    .a_transposed = a.transposed,
                    .b = b.data + i * b.rows * b.cols,
                    .ld_b = b.cols,
                    .b_transposed = b.transposed,
                    .c = y + i * a.height() * b.width(),
                    .ld_c = b.width(),
                    .accumulate = accumulate});
  };
  if (count >= 2 * pool().size()) return pool().for_each(count, one);
  for (int64_t i = 0; i < count; ++i) one(i, 0);
}

// dinto += l r, or its transpose where the side lies transposed: (l r)^T = r^T l^T
void backward_to(Tape& t, const ValueId& into, bool transposed, int64_t count, Matrices l, Matrices r) {
  if (!t.needs_grad(into)) return;
  if (transposed) l = std::exchange(r, l.turned()).turned();
  bool first = false;
  float* d = t.grad(into, first).data();
  product(count, l, r, !first, d);
}

}  // namespace

Tensor batched_product(const Tensor& a, const Tensor& b, Transposed transposed) {
  const int rank = a.shape().rank();
  bool fits = rank >= 2 && b.shape().rank() == rank;
  int64_t count = 1;
  for (int i = 0; i < rank - 2 && fits; ++i) {
    fits = a.dim(i) == b.dim(i);
    count *= a.dim(i);
  }
  fits = fits && a.dim(transposed.a ? -2 : -1) == b.dim(transposed.b ? -1 : -2);
  FOVEA_CHECK(fits, "batched_product: {}{} times {}{}", a.shape().to_string(), transposed.a ? " transposed" : "",
              b.shape().to_string(), transposed.b ? " transposed" : "");
  const Matrices left = matrices(a, transposed.a), right = matrices(b, transposed.b);
  Tensor y = Tensor::empty(with_dim(with_dim(a.shape(), rank - 2, left.height()), rank - 1, right.width()));
  product(count, left, right, false, y.data());
  // da = dy b^T, db = a^T dy
  if (Tape* tape = current_tape()) {
    tape->record(y, {a, b}, [a, b, transposed, count, y = ValueId(y)](Tape& t) {
      const Tensor dy = t.grad(y);
      const Matrices d = matrices(dy, false);
      backward_to(t, a, transposed.a, count, d, matrices(b, transposed.b).turned());
      backward_to(t, b, transposed.b, count, matrices(a, transposed.a).turned(), d);
    });
  }
  return y;
}

}  // namespace fovea::tensor
