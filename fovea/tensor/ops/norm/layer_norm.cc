#include "fovea/tensor/ops/norm/layer_norm.h"

#include <cmath>

#include "fovea/base/check.h"
#include "fovea/tensor/ops/for_rows.h"
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

struct Moments {
  float mean, inverse;  // 1 / sqrt(variance + eps)
};

Moments moments(const float* x, int64_t n, float eps) {
  double sum = 0, squares = 0;
  for (int64_t i = 0; i < n; ++i) sum += x[i];
  const double mean = sum / static_cast<double>(n);
  for (int64_t i = 0; i < n; ++i) squares += (x[i] - mean) * (x[i] - mean);
  return {static_cast<float>(mean), static_cast<float>(1 / std::sqrt(squares / static_cast<double>(n) + double{eps}))};
}

}  // namespace

Tensor layer_norm(const Tensor& x, const Weight& weight, const Weight& bias, float eps) {
  const Around a(x.shape(), -1, "layer_norm");
  const int64_t n = a.n, n_rows = a.outer;
  FOVEA_CHECK(n > 0, "layer_norm: shape {} has no last dimension", x.shape().to_string());
  Tensor hold_w, hold_b, y = Tensor::empty(x.shape()), normal = Tensor::empty(x.shape()),
                         scale = Tensor::empty({n_rows});
  const float *w = values_of(weight, n, hold_w), *b = values_of(bias, n, hold_b), *in = x.data();
  float *out = y.data(), *xhat = normal.data(), *inverse = scale.data();
  for_rows(n_rows, n, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const Moments m = moments(in + r * n, n, eps);
      inverse[r] = m.inverse;
      for (int64_t i = r * n, c = 0; c < n; ++c, ++i) {
        xhat[i] = (in[i] - m.mean) * m.inverse;
        out[i] = xhat[i] * (w ? w[c] : 1.0f) + (b ? b[c] : 0.0f);
      }
    }
  });
  // With g = dy weight: dx = (g - mean(g) - xhat mean(g xhat)) / sqrt(variance + eps)
  if (Tape* tape = current_tape()) {
    tape->record(
        y, {x, weight.value, bias.value},
        [x = ValueId(x), y = ValueId(y), weight, bias = ValueId(bias.value), normal, scale, n, n_rows](Tape& t) {
          Tensor hold;
          const float *v = values_of(weight, n, hold), *dy = t.grad(y).data(), *unit = normal.data();
          if (t.needs_grad(x)) {
            float* dx = t.grad(x).data();
            for_rows(n_rows, n, [&](int64_t begin, int64_t end) {
              for (int64_t r = begin; r < end; ++r) {
                double sum = 0, dot = 0;
                for (int64_t i = r * n, c = 0; c < n; ++c, ++i) {
                  const float g = dy[i] * (v ? v[c] : 1.0f);
                  sum += g, dot += double{g} * unit[i];
                }
                const auto mean = static_cast<float>(sum / static_cast<double>(n));
                const auto pull = static_cast<float>(dot / static_cast<double>(n));
                for (int64_t i = r * n, c = 0; c < n; ++c, ++i)
                  dx[i] += (dy[i] * (v ? v[c] : 1.0f) - mean - unit[i] * pull) * scale.data()[r];
              }
            });
          }
          float* dw = t.needs_grad(weight.value) ? t.grad(weight.value).data() : nullptr;
          float* db = t.needs_grad(bias) ? t.grad(bias).data() : nullptr;
          for_columns(n, n_rows, [&](int64_t begin, int64_t end) {  // rows in rising order
            for (int64_t r = 0; r < n_rows; ++r) {
              for (int64_t c = begin; c < end && dw; ++c) dw[c] += dy[r * n + c] * unit[r * n + c];
              for (int64_t c = begin; c < end && db; ++c) db[c] += dy[r * n + c];
            }
          });
        });
  }
  return y;
}

}  // namespace fovea::tensor
