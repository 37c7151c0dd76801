#include "fovea/tensor/ops/math/silu.h"

#include "fovea/base/check.h"
#include "fovea/kernels/gradients.h"
#include "fovea/kernels/vector.h"
#include "fovea/tensor/ops/for_rows.h"
#include "fovea/tensor/tape.h"

namespace fovea::tensor {

Tensor silu(const Tensor& x) {
  Tensor y = Tensor::empty(x.shape());
  const float* px = x.data();
  float* py = y.data();
  for_elements(y.elements(), [&](int64_t begin, int64_t end) { kernels::silu(px + begin, end - begin, py + begin); });
  if (Tape* tape = current_tape()) {
    tape->record(y, {x}, [x, y = ValueId(y)](Tape& t) {
      bool first = false;
      const float *in = x.data(), *dy = t.grad(y).data();
      float* dx = t.grad(x, first).data();
      for_elements(x.elements(), [&](int64_t begin, int64_t end) {
        kernels::silu_backward(in + begin, dy + begin, end - begin, !first, dx + begin);
      });
    });
  }
  return y;
}

Tensor swiglu(const Tensor& gate, const Tensor& up) {
  FOVEA_CHECK(gate.shape() == up.shape(), "swiglu: shapes {} and {} differ", gate.shape().to_string(),
              up.shape().to_string());
  Tensor y = Tensor::empty(gate.shape());
  const float *pg = gate.data(), *pu = up.data();
  float* py = y.data();
  for_elements(y.elements(),
               [&](int64_t begin, int64_t end) { kernels::swiglu(pg + begin, pu + begin, end - begin, py + begin); });
  // dgate = silu'(gate) up dy, dup = silu(gate) dy
  if (Tape* tape = current_tape()) {
    tape->record(y, {gate, up}, [gate, up, y = ValueId(y)](Tape& t) {
      kernels::SwigluBackward args{.gate = gate.data(), .up = up.data(), .dy = t.grad(y).data()};
      bool first = false;
      if (t.needs_grad(gate)) args.dgate = t.grad(gate, first).data(), args.add_gate = !first;
      if (t.needs_grad(up)) args.dup = t.grad(up, first).data(), args.add_up = !first;
      for_elements(gate.elements(), [&](int64_t begin, int64_t end) { kernels::swiglu_backward(args, begin, end); });
    });
  }
  return y;
}

}  // namespace fovea::tensor
