#include "fovea/tensor/ops/norm/modulate.h"

#include "fovea/base/check.h"
#include "fovea/tensor/ops/for_rows.h"
#include "fovea/tensor/tape.h"

namespace fovea::tensor {

Tensor modulate(const Tensor& x, const Tensor& scale, const Tensor& shift) {
  const bool fits = x.shape().rank() == 2 && scale.shape().rank() == 2 && scale.shape() == shift.shape() &&
                    scale.dim(1) == x.dim(1) && scale.dim(0) > 0 && x.dim(0) % scale.dim(0) == 0;
  FOVEA_CHECK(fits, "modulate: x {}, scale {}, shift {}", x.shape().to_string(), scale.shape().to_string(),
              shift.shape().to_string());
  const int64_t n = x.dim(0), d = x.dim(1), samples = scale.dim(0), rows = n / samples;
  Tensor y = Tensor::empty(x.shape());
  for_rows(n, d, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const float *in = x.data() + r * d, *by = scale.data() + r / rows * d, *plus = shift.data() + r / rows * d;
      for (int64_t c = 0; c < d; ++c) y.data()[r * d + c] = in[c] * (1 + by[c]) + plus[c];
    }
  });
  // dx = dy (1 + scale), dscale = sum over rows of dy x, dshift = sum over rows of dy
  if (Tape* tape = current_tape()) {
    tape->record(y, {x, scale, shift}, [=, shift = ValueId(shift), y = ValueId(y)](Tape& t) {
      const float* dy = t.grad(y).data();
      if (t.needs_grad(x)) {
        float* dx = t.grad(x).data();
        for_rows(n, d, [&](int64_t begin, int64_t end) {
          for (int64_t r = begin; r < end; ++r) {
            const float* by = scale.data() + r / rows * d;
            for (int64_t c = 0; c < d; ++c) dx[r * d + c] += dy[r * d + c] * (1 + by[c]);
          }
        });
      }
      float* dscale = t.needs_grad(scale) ? t.grad(scale).data() : nullptr;
      float* dshift = t.needs_grad(shift) ? t.grad(shift).data() : nullptr;
      for_rows(samples, rows * d, [&](int64_t begin, int64_t end) {
        for (int64_t s = begin; s < end; ++s) {
          for (int64_t r = s * rows; r < (s + 1) * rows; ++r) {
            for (int64_t c = 0; c < d && dscale; ++c) dscale[s * d + c] += dy[r * d + c] * x.data()[r * d + c];
            for (int64_t c = 0; c < d && dshift; ++c) dshift[s * d + c] += dy[r * d + c];
          }
        }
      });
    });
  }
  return y;
}

}  // namespace fovea::tensor
