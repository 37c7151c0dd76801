#include "fovea/tensor/ops/silu.h"

#include <cmath>

#include "fovea/base/check.h"
#include "fovea/kernels/vector.h"
#include "fovea/tensor/ops/for_rows.h"
#include "fovea/tensor/tape.h"

namespace fovea::tensor {
namespace {

float sigmoid(float x) { return 1.0f / (1.0f + std::exp(-x)); }
float silu_value(float x) { return x * sigmoid(x); }
// d silu(x) / dx = s (1 + x (1 - s)), s = sigmoid(x)
float silu_slope(float x) {
  const float s = sigmoid(x);
  return s * (1.0f + x * (1.0f - s));
}

}  // namespace

Tensor silu(const Tensor& x) {
  Tensor y = Tensor::empty(x.shape());
  const float* px = x.data();
  float* py = y.data();
  for_elements(y.elements(), [&](int64_t begin, int64_t end) { kernels::silu(px + begin, end - begin, py + begin); });
  if (Tape* tape = current_tape()) {
    tape->record(y, {x}, [x, y](Tape& t) {
      const float *in = x.data(), *dy = t.grad(y).data();
      float* dx = t.grad(x).data();
      for_elements(x.elements(), [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) dx[i] += dy[i] * silu_slope(in[i]);
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
    tape->record(y, {gate, up}, [gate, up, y](Tape& t) {
      const float *g = gate.data(), *u = up.data(), *dy = t.grad(y).data();
      float* dg = t.needs_grad(gate) ? t.grad(gate).data() : nullptr;
      float* du = t.needs_grad(up) ? t.grad(up).data() : nullptr;
      for_elements(y.elements(), [&](int64_t begin, int64_t end) {
        if (dg)
          for (int64_t i = begin; i < end; ++i) dg[i] += silu_slope(g[i]) * u[i] * dy[i];
        if (du)
          for (int64_t i = begin; i < end; ++i) du[i] += silu_value(g[i]) * dy[i];
      });
    });
  }
  return y;
}

}  // namespace fovea::tensor
