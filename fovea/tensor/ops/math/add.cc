#include "fovea/tensor/ops/math/add.h"

#include "fovea/base/check.h"
#include "fovea/kernels/vector.h"
#include "fovea/tensor/ops/accumulate.h"
#include "fovea/tensor/ops/for_rows.h"
#include "fovea/tensor/tape.h"

namespace fovea::tensor {

Tensor add(const Tensor& a, const Tensor& b) {
  FOVEA_CHECK(a.shape() == b.shape(), "add: shapes {} and {} differ", a.shape().to_string(), b.shape().to_string());
  Tensor y = Tensor::empty(a.shape());
  const float *pa = a.data(), *pb = b.data();
  float* py = y.data();
  for_elements(y.elements(),
               [&](int64_t begin, int64_t end) { kernels::add(pa + begin, pb + begin, end - begin, py + begin); });
  // da = dy, db = dy
  if (Tape* tape = current_tape()) {
    tape->record(y, {a, b}, [a = ValueId(a), b = ValueId(b), y = ValueId(y)](Tape& t) {
      if (t.needs_grad(a)) accumulate(t, a, t.grad(y));
      if (t.needs_grad(b)) accumulate(t, b, t.grad(y));
    });
  }
  return y;
}

}  // namespace fovea::tensor
