#include "fovea/tensor/ops/train/stop_gradient.h"

#include "fovea/base/check.h"
#include "fovea/tensor/ops/accumulate.h"
#include "fovea/tensor/tape.h"

namespace fovea::tensor {

// A copy, because gradients belong to values.
Tensor stop_gradient(const Tensor& x) {
  const Tape* tape = current_tape();
  return tape && tape->needs_grad(x) ? Tensor::from(x.shape(), x.values()) : x;
}

Tensor straight_through(const Tensor& hard, const Tensor& soft) {
  FOVEA_CHECK(hard.shape() == soft.shape(), "straight_through: shapes {} and {} differ", hard.shape().to_string(),
              soft.shape().to_string());
  Tensor y = Tensor::from(hard.shape(), hard.values());
  if (Tape* tape = current_tape()) {
    tape->record(y, {soft}, [soft = ValueId(soft), y = ValueId(y)](Tape& t) { accumulate(t, soft, t.grad(y)); });
  }
  return y;
}

}  // namespace fovea::tensor
