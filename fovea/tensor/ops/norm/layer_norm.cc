#include "fovea/tensor/ops/norm/layer_norm.h"

#include "fovea/base/check.h"
#include "fovea/kernels/activations.h"
#include "fovea/kernels/gradients.h"
#include "fovea/kernels/vector.h"
#include "fovea/tensor/ops/for_rows.h"
#include "fovea/tensor/ops/quantized_form.h"
#include "fovea/tensor/ops/shape_of.h"
#include "fovea/tensor/tape.h"

namespace fovea::tensor {
namespace {

// float32 values of a vector of n, or null where there is none; `hold` keeps what had to be dequantised.
const float* values_of(const Weight& w, int64_t n, Tensor& hold) {
  if (!w.defined()) return nullptr;
  FOVEA_CHECK(w.rows() == 1 && w.cols() == n, "layer_norm: weight {} is [{}, {}], wanted [1, {}]", w.name, w.rows(),
              w.cols(), n);
  if (w.view.dtype == kernels::DType::kF32) return static_cast<const float*>(w.view.data);
  hold = weight_values(w);
  return hold.data();
}

}  // namespace

Tensor layer_norm(const Tensor& x, const Weight& weight, const Weight& bias, float eps, Next next) {
  const Around a(x.shape(), -1, "layer_norm");
  const int64_t n = a.n, n_rows = a.outer;
  FOVEA_CHECK(n > 0, "layer_norm: shape {} has no last dimension", x.shape().to_string());
  Tape* tape = current_tape();
  Tensor hold_w, hold_b, y = Tensor::empty(x.shape()), normal, scale;
  if (tape) normal = Tensor::empty(x.shape()), scale = Tensor::empty({n_rows});
  const float *w = values_of(weight, n, hold_w), *b = values_of(bias, n, hold_b), *in = x.data();
  float* out = y.data();
  QuantizedForm* form =
      wants_form(next, n) ? &QuantizedForm::begin(y, n_rows, n, next == Next::kFineProducts) : nullptr;
  for_rows(n_rows, n, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      float* row = out + r * n;
      kernels::center(in + r * n, n, row);
      if (tape) {
        scale.data()[r] = 1 / kernels::rms_inv_scale(row, eps, n);
        kernels::rms_norm(row, nullptr, eps, n, normal.data() + r * n);
      }
      kernels::rms_norm(row, w, eps, n, row);
      if (b) kernels::add(row, b, n, row);
      if (form) form->fill(out, r, r + 1);
    }
  });
  // With g = dy weight: dx = (g - mean(g) - xhat mean(g xhat)) / sqrt(variance + eps)
  if (tape) {
    tape->record(
        y, {x, weight.value, bias.value},
        [x = ValueId(x), y = ValueId(y), weight, bias = ValueId(bias.value), normal, scale, n, n_rows](Tape& t) {
          Tensor hold;
          const float *v = values_of(weight, n, hold), *dy = t.grad(y).data(), *unit = normal.data();
          if (t.needs_grad(x)) {
            bool first = false;
            float* dx = t.grad(x, first).data();
            for_rows(n_rows, n, [&](int64_t begin, int64_t end) {
              for (int64_t r = begin; r < end; ++r)
                kernels::layer_norm_backward(unit + r * n, v, dy + r * n, scale.data()[r], n, !first, dx + r * n);
            });
          }
          float* dw = t.needs_grad(weight.value) ? t.grad(weight.value).data() : nullptr;
          float* db = t.needs_grad(bias) ? t.grad(bias).data() : nullptr;
          for_columns(n, n_rows, [&](int64_t begin, int64_t end) {  // rows in rising order
            for (int64_t r = 0; r < n_rows; ++r) {
              const int64_t at = r * n + begin;
              if (dw) kernels::add_product(dy + at, unit + at, end - begin, dw + begin);
              if (db) kernels::add(db + begin, dy + at, end - begin, db + begin);
            }
          });
        });
  }
  return y;
}

Tensor center(const Tensor& x) {
  const Around a(x.shape(), -1, "center");
  FOVEA_CHECK(a.n > 0, "center: shape {} has no last dimension", x.shape().to_string());
  Tensor y = Tensor::empty(x.shape());
  const int64_t n = a.n;
  for_rows(a.outer, n, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) kernels::center(x.data() + r * n, n, y.data() + r * n);
  });
  // dx = dy - mean(dy)
  if (Tape* tape = current_tape()) {
    tape->record(y, {x}, [x = ValueId(x), y = ValueId(y), n_rows = a.outer, n](Tape& t) {
      const float* dy = t.grad(y).data();
      float* dx = t.grad(x).data();
      Tensor pull = Tensor::empty({n_rows, n});
      for_rows(n_rows, n, [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) {
          kernels::center(dy + r * n, n, pull.data() + r * n);
          kernels::add(dx + r * n, pull.data() + r * n, n, dx + r * n);
        }
      });
    });
  }
  return y;
}

}  // namespace fovea::tensor
