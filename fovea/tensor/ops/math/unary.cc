#include "fovea/tensor/ops/math/unary.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "fovea/base/check.h"
#include "fovea/kernels/activations.h"
#include "fovea/tensor/ops/math/map.h"

namespace fovea::tensor {
namespace {

float sigmoid_of(float x) { return 1.0f / (1.0f + std::exp(-x)); }

// The inner function of gelu's tanh form, and its slope.
constexpr float kCubic = 0.044715f;
const float kRoot = std::sqrt(2.0f / std::numbers::pi_v<float>);
float inner(float x) { return kRoot * (x + kCubic * x * x * x); }
float inner_slope(float x) { return kRoot * (1 + 3 * kCubic * x * x); }

float phi(float x) { return 0.5f * (1 + std::erf(x * std::numbers::sqrt2_v<float> / 2)); }
float density(float x) { return std::exp(-0.5f * x * x) / std::sqrt(2 * std::numbers::pi_v<float>); }

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
  const auto by = [](kernels::Activation act) {
    return [act](const float* in, int64_t n, float* out) { kernels::activate(act, in, n, out); };
  };
  switch (kind) {
    case Gelu::kErf: return map_all(x, by(kernels::Activation::kGelu), [](float v) { return phi(v) + v * density(v); });
    case Gelu::kTanh:
      return map_all(x, by(kernels::Activation::kGeluTanh), [](float v) {
        const float th = std::tanh(inner(v));
        return 0.5f * (1 + th) + 0.5f * v * (1 - th * th) * inner_slope(v);
      });
    case Gelu::kQuick:
      return map(
          x, [](float v) { return v * sigmoid_of(kQuick * v); },
          [](float v) {
            const float s = sigmoid_of(kQuick * v);
            return s + kQuick * v * s * (1 - s);
          });
  }
  FOVEA_CHECK(false, "gelu: there is no kind {}", static_cast<int>(kind));
  return {};
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
