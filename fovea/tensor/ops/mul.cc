#include "fovea/tensor/ops/mul.h"

#include "fovea/base/check.h"
#include "fovea/kernels/vector.h"
#include "fovea/tensor/ops/for_rows.h"
#include "fovea/tensor/tape.h"

namespace fovea::tensor {
namespace {

// into += a * b
void accumulate_product(Tensor& into, const Tensor& a, const Tensor& b) {
  float* to = into.data();
  const float *pa = a.data(), *pb = b.data();
  for_elements(into.elements(), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) to[i] += pa[i] * pb[i];
  });
}

}  // namespace

Tensor mul(const Tensor& a, const Tensor& b) {
  FOVEA_CHECK(a.shape() == b.shape(), "mul: shapes {} and {} differ", a.shape().to_string(), b.shape().to_string());
  Tensor y = Tensor::empty(a.shape());
  const float *pa = a.data(), *pb = b.data();
  float* py = y.data();
  for_elements(y.elements(),
               [&](int64_t begin, int64_t end) { kernels::mul(pa + begin, pb + begin, end - begin, py + begin); });
  // da = b dy, db = a dy
  if (Tape* tape = current_tape()) {
    tape->record(y, {a, b}, [a, b, y](Tape& t) {
      if (t.needs_grad(a)) accumulate_product(t.grad(a), b, t.grad(y));
      if (t.needs_grad(b)) accumulate_product(t.grad(b), a, t.grad(y));
    });
  }
  return y;
}

}  // namespace fovea::tensor
