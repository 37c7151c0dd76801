#include "fovea/tensor/ops/norm/rms_norm.h"

#include <algorithm>

#include "fovea/base/check.h"
#include "fovea/kernels/gradients.h"
#include "fovea/kernels/vector.h"
#include "fovea/tensor/ops/for_rows.h"
#include "fovea/tensor/ops/quantized_form.h"
#include "fovea/tensor/tape.h"

namespace fovea::tensor {
namespace {

int64_t rows_of(const Tensor& x, const char* op) {
  FOVEA_CHECK(x.shape().rank() >= 1 && x.dim(-1) > 0, "{}: shape {} has no last dimension", op, x.shape().to_string());
  return x.elements() / x.dim(-1);
}

// A vector of float32 for a weight of n elements: in place, or dequantised into `hold`.
const float* vector_of(const Weight& w, int64_t n, const char* op, Tensor& hold) {
  FOVEA_CHECK(w.rows() == 1 && w.cols() == n, "{}: weight {} is [{}, {}], wanted [1, {}]", op, w.name, w.rows(),
              w.cols(), n);
  if (w.view.dtype == kernels::DType::kF32) return static_cast<const float*>(w.view.data);
  hold = weight_values(w);
  return hold.data();
}

// dw += sum over rows of dy * x / scale: rows in rising order within a column, whatever the threads.
// `scales` null: x is taken as it is.
void accumulate_weight(const float* x, const float* dy, const float* scales, int64_t n_rows, int64_t n, float* dw) {
  for_columns(n, n_rows, [&](int64_t first, int64_t last) {
    for (int64_t t = 0; t < n_rows; ++t) {
      const float inverse = scales ? 1.0f / scales[t] : 1.0f;
      for (int64_t c = first; c < last; ++c) dw[c] += dy[t * n + c] * (x[t * n + c] * inverse);
    }
  });
}

}  // namespace

Tensor rms_norm(const Tensor& x, const Weight& weight, float eps, Next next) {
  const int64_t n_rows = rows_of(x, "rms_norm"), n = x.dim(-1);
  Tensor hold;
  const float* w = vector_of(weight, n, "rms_norm", hold);
  Tensor y = Tensor::empty(x.shape());
  const float* px = x.data();
  float* py = y.data();
  QuantizedForm* form =
      wants_form(next, n) ? &QuantizedForm::begin(y, n_rows, n, next == Next::kFineProducts) : nullptr;
  for_rows(n_rows, n, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      kernels::rms_norm(px + t * n, w, eps, n, py + t * n);
      if (form) form->fill(py, t, t + 1);
    }
  });
  if (Tape* tape = current_tape()) {
    tape->record(y, {x, weight.value}, [x, weight, eps, n_rows, n, y = ValueId(y)](Tape& t) {
      Tensor held, scales = Tensor::empty({n_rows, 1});
      const float* values = vector_of(weight, n, "rms_norm", held);
      const float *in = x.data(), *dy = t.grad(y).data();
      float* scale = scales.data();
      bool first = false;
      float* dx = t.needs_grad(x) ? t.grad(x, first).data() : nullptr;
      for_rows(n_rows, n, [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) {
          scale[r] = kernels::rms_inv_scale(in + r * n, eps, n);
          if (dx) kernels::rms_norm_backward(in + r * n, values, dy + r * n, scale[r], n, !first, dx + r * n);
        }
      });
      if (weight.value.defined() && t.needs_grad(weight.value))
        accumulate_weight(in, dy, scale, n_rows, n, t.grad(weight.value).data());
    });
  }
  return y;
}

Tensor rms_scale(const Tensor& x, float eps) {
  const int64_t n_rows = rows_of(x, "rms_scale"), n = x.dim(-1);
  Tensor y = Tensor::empty({n_rows, 1});
  for_rows(n_rows, n, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) y.data()[t] = kernels::rms_inv_scale(x.data() + t * n, eps, n);
  });
  // dx = dscale x / (n scale)
  if (Tape* tape = current_tape()) {
    tape->record(y, {x}, [x, y, n_rows, n](Tape& t) {
      const float *in = x.data(), *scale = y.data(), *dy = t.grad(y).data();
      float* dx = t.grad(x).data();
      for_rows(n_rows, n, [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) {
          const float factor = dy[r] / (static_cast<float>(n) * scale[r]);
          for (int64_t c = 0; c < n; ++c) dx[r * n + c] += factor * in[r * n + c];
        }
      });
    });
  }
  return y;
}

Tensor rms_normalize(const Tensor& x, const Tensor& scale) {
  const int64_t n_rows = rows_of(x, "rms_normalize"), n = x.dim(-1);
  FOVEA_CHECK(scale.elements() == n_rows, "rms_normalize: scale {} for x {}", scale.shape().to_string(),
              x.shape().to_string());
  Tensor y = Tensor::empty(x.shape());
  const float *px = x.data(), *ps = scale.data();
  float* py = y.data();
  for_rows(n_rows, n, [&](int64_t begin, int64_t end) {
    // Times 1 / scale, as the kernel of rms_norm does: the parts give the bits of the whole.
    for (int64_t t = begin; t < end; ++t) kernels::scale(n, 1.0f / ps[t], px + t * n, py + t * n);
  });
  // dx = dy / scale, dscale = -sum(dy y) / scale
  if (Tape* tape = current_tape()) {
    tape->record(y, {x, scale}, [x, scale, y, n_rows, n](Tape& t) {
      const float *out = y.data(), *s = scale.data(), *dy = t.grad(y).data();
      float* dx = t.needs_grad(x) ? t.grad(x).data() : nullptr;
      float* ds = t.needs_grad(scale) ? t.grad(scale).data() : nullptr;
      for_rows(n_rows, n, [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) {
          const float inverse = 1.0f / s[r];
          double dot = 0;
          for (int64_t c = r * n; c < (r + 1) * n; ++c) {
            dot += static_cast<double>(dy[c]) * out[c];
            if (dx) dx[c] += dy[c] * inverse;
          }
          if (ds) ds[r] -= static_cast<float>(dot) * inverse;
        }
      });
    });
  }
  return y;
}

Tensor rms_normalize(const Tensor& x, float eps) { return rms_normalize(x, rms_scale(x, eps)); }

Tensor scale_columns(const Tensor& x, const Weight& weight) {
  const int64_t n_rows = rows_of(x, "scale_columns"), n = x.dim(-1);
  Tensor hold;
  const float* w = vector_of(weight, n, "scale_columns", hold);
  Tensor y = Tensor::empty(x.shape());
  const float* px = x.data();
  float* py = y.data();
  for_rows(n_rows, n, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) kernels::mul(px + t * n, w, n, py + t * n);
  });
  if (Tape* tape = current_tape()) {
    tape->record(y, {x, weight.value}, [x, weight, y = ValueId(y), n_rows, n](Tape& t) {
      Tensor held;
      const float* values = vector_of(weight, n, "scale_columns", held);
      const float* dy = t.grad(y).data();
      if (t.needs_grad(x)) {
        float* dx = t.grad(x).data();
        for_rows(n_rows, n, [&](int64_t begin, int64_t end) {
          for (int64_t r = begin; r < end; ++r) {
            for (int64_t c = 0; c < n; ++c) dx[r * n + c] += dy[r * n + c] * values[c];
          }
        });
      }
      if (t.needs_grad(weight.value)) accumulate_weight(x.data(), dy, nullptr, n_rows, n, t.grad(weight.value).data());
    });
  }
  return y;
}

}  // namespace fovea::tensor
