#include "fovea/tensor/ops/math/unary.h"

#include <algorithm>
#include <cmath>

#include "fovea/base/check.h"
#include "fovea/kernels/activations.h"
#include "fovea/kernels/gradients.h"
#include "fovea/tensor/ops/math/map.h"

namespace fovea::tensor {
namespace {

float sigmoid_of(float x) { return 1.0f / (1.0f + std::exp(-x)); }

constexpr float kQuick = 1.702f;

}  // namespace

Tensor exp(const Tensor& x) {
  return map<SlopeOf::kOutput>(
      x, [](float v) { return std::exp(v); }, [](float y) { return y; });
}
Tensor log(const Tensor& x) {
  return map(
      x, [](float v) { return std::log(v); }, [](float v) { return 1 / v; });
}
Tensor sqrt(const Tensor& x) {
  return map<SlopeOf::kOutput>(
      x, [](float v) { return std::sqrt(v); }, [](float y) { return 0.5f / y; });
}
Tensor square(const Tensor& x) {
  return map(
      x, [](float v) { return v * v; }, [](float v) { return 2 * v; });
}
Tensor abs(const Tensor& x) {
  return map(
      x, [](float v) { return std::abs(v); }, [](float v) { return v > 0   ? 1.0f
                                                                   : v < 0 ? -1.0f
                                                                           : 0.0f; });
}
Tensor tanh(const Tensor& x) {
  return map<SlopeOf::kOutput>(
      x, [](float v) { return std::tanh(v); }, [](float y) { return 1 - y * y; });
}
Tensor sigmoid(const Tensor& x) {
  return map<SlopeOf::kOutput>(x, sigmoid_of, [](float y) { return y * (1 - y); });
}
Tensor relu(const Tensor& x) {
  return map(
      x, [](float v) { return v > 0 ? v : 0.0f; }, [](float v) { return v > 0 ? 1.0f : 0.0f; });
}
Tensor softplus(const Tensor& x) {
  return map(
      x, [](float v) { return std::max(v, 0.0f) + std::log1p(std::exp(-std::abs(v))); }, sigmoid_of);
}

Tensor gelu(const Tensor& x, Gelu kind) {
  if (kind == Gelu::kQuick) {
    return map(
        x, [](float v) { return v * sigmoid_of(kQuick * v); },
        [](float v) {
          const float s = sigmoid_of(kQuick * v);
          return s + kQuick * v * s * (1 - s);
        });
  }
  FOVEA_CHECK(kind == Gelu::kErf || kind == Gelu::kTanh, "gelu: there is no kind {}", static_cast<int>(kind));
  const bool by_tanh = kind == Gelu::kTanh;
  Tensor y = Tensor::empty(x.shape());
  const float* in = x.data();
  float* out = y.data();
  for_elements(x.elements(), [&](int64_t begin, int64_t end) {
    const auto act = by_tanh ? kernels::Activation::kGeluTanh : kernels::Activation::kGelu;
    kernels::activate(act, in + begin, end - begin, out + begin);
  });
  if (Tape* tape = current_tape()) {
    tape->record(y, {x}, [x, by_tanh, y = ValueId(y)](Tape& t) {
      bool first = false;
      const float *v = x.data(), *dy = t.grad(y).data();
      float* dx = t.grad(x, first).data();
      for_elements(x.elements(), [&](int64_t begin, int64_t end) {
        kernels::gelu_backward(v + begin, dy + begin, end - begin, by_tanh, !first, dx + begin);
      });
    });
  }
  return y;
}

Tensor clamp(const Tensor& x, float least, float most) {
  FOVEA_CHECK(least <= most, "clamp: no value is between {} and {}", least, most);
  return map(
      x, [=](float v) { return v < least  ? least
                               : v > most ? most
                                          : v; },
      [=](float v) { return v < least || v > most ? 0.0f : 1.0f; });
}
Tensor affine(const Tensor& x, float factor, float shift) {
  return map(
      x, [=](float v) { return factor * v + shift; }, [=](float) { return factor; });
}

}  // namespace fovea::tensor
