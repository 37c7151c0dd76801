#include "fovea/tensor/ops/math/mul.h"

#include "fovea/base/check.h"
#include "fovea/kernels/gradients.h"
#include "fovea/kernels/vector.h"
#include "fovea/tensor/ops/for_rows.h"
#include "fovea/tensor/tape.h"

namespace fovea::tensor {
namespace {

// grad(into) += a * b
void accumulate_product(Tape& tape, const ValueId& into, const Tensor& a, const Tensor& b) {
  bool first = false;
  float* to = tape.grad(into, first).data();
  const float *pa = a.data(), *pb = b.data();
  for_elements(a.elements(), [&](int64_t begin, int64_t end) {
    (first ? kernels::mul : kernels::add_product)(pa + begin, pb + begin, end - begin, to + begin);
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
    const Tensor for_a = tape->needs_grad(a) ? b : Tensor(), for_b = tape->needs_grad(b) ? a : Tensor();
    tape->record(y, {a, b}, [for_a, for_b, a = ValueId(a), b = ValueId(b), y = ValueId(y)](Tape& t) {
      if (for_a.defined()) accumulate_product(t, a, for_a, t.grad(y));
      if (for_b.defined()) accumulate_product(t, b, for_b, t.grad(y));
    });
  }
  return y;
}

}  // namespace fovea::tensor
