#include "fovea/tensor/ops/recurrent/gru.h"

#include <cmath>

#include "fovea/base/check.h"
#include "fovea/tensor/ops/for_rows.h"
#include "fovea/tensor/tape.h"

namespace fovea::tensor {
namespace {

struct Gates {
  Gates(const float* x, const float* h, int64_t d)
      : r(1 / (1 + std::exp(-(x[0] + h[0])))),
        z(1 / (1 + std::exp(-(x[d] + h[d])))),
        n(std::tanh(x[2 * d] + r * h[2 * d])) {}
  float r, z, n;
};

}  // namespace

Tensor gru_step(const Tensor& from_x, const Tensor& from_h, const Tensor& h) {
  const bool fits = h.shape().rank() == 2 && from_x.shape().rank() == 2 && from_x.shape() == from_h.shape() &&
                    from_x.dim(0) == h.dim(0) && from_x.dim(1) == 3 * h.dim(1);
  FOVEA_CHECK(fits, "gru_step: {} of x and {} of h for a state {}", from_x.shape().to_string(),
              from_h.shape().to_string(), h.shape().to_string());
  const int64_t batch = h.dim(0), d = h.dim(1);
  Tensor y = Tensor::empty(h.shape());
  for_rows(batch, 8 * d, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin * d; i < end * d; ++i) {
      const int64_t at = i / d * 3 * d + i % d;
      const Gates g(from_x.data() + at, from_h.data() + at, d);
      y.data()[i] = (1 - g.z) * g.n + g.z * h.data()[i];
    }
  });
  if (Tape* tape = current_tape()) {
    tape->record(y, {from_x, from_h, h}, [=, y = ValueId(y)](Tape& t) {
      const float* dy = t.grad(y).data();
      float* dx = t.needs_grad(from_x) ? t.grad(from_x).data() : nullptr;
      float* dfrom = t.needs_grad(from_h) ? t.grad(from_h).data() : nullptr;
      float* dh = t.needs_grad(h) ? t.grad(h).data() : nullptr;
      for_rows(batch, 8 * d, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin * d; i < end * d; ++i) {
          const int64_t at = i / d * 3 * d + i % d;
          const Gates g(from_x.data() + at, from_h.data() + at, d);
          const float hidden = from_h.data()[at + 2 * d];
          const float dn = dy[i] * (1 - g.z) * (1 - g.n * g.n), dr = dn * hidden * g.r * (1 - g.r);
          const float dz = dy[i] * (h.data()[i] - g.n) * g.z * (1 - g.z);
          if (dx) dx[at] += dr, dx[at + d] += dz, dx[at + 2 * d] += dn;
          if (dfrom) dfrom[at] += dr, dfrom[at + d] += dz, dfrom[at + 2 * d] += dn * g.r;
          if (dh) dh[i] += dy[i] * g.z;
        }
      });
    });
  }
  return y;
}

}  // namespace fovea::tensor
