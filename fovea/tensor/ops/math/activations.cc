#include "fovea/tensor/ops/math/activations.h"

#include <limits>

#include "fovea/base/check.h"
#include "fovea/tensor/ops/for_rows.h"
#include "fovea/tensor/ops/math/mul.h"
#include "fovea/tensor/ops/math/silu.h"
#include "fovea/tensor/ops/math/unary.h"
#include "fovea/tensor/tape.h"

namespace fovea::tensor {

using kernels::kSwigluAlpha;
using kernels::kSwigluLimit;

Tensor activate(const Tensor& x, Activation act) {
  switch (act) {
    case Activation::kSilu: return silu(x);
    case Activation::kGelu: return gelu(x, Gelu::kErf);
    case Activation::kGeluTanh: return gelu(x, Gelu::kTanh);
    case Activation::kRelu: return relu(x);
    case Activation::kClampedSwiglu: {
      const Tensor low = clamp(x, -std::numeric_limits<float>::max(), kSwigluLimit);
      return mul(low, sigmoid(affine(low, kSwigluAlpha)));
    }
  }
  FOVEA_CHECK(false, "activate: there is no activation {}", static_cast<int>(act));
  return {};
}

Tensor gated(const Tensor& gate, const Tensor& up, Activation act) {
  if (act == Activation::kSilu) return swiglu(gate, up);
  if (current_tape()) {
    const bool clamps = act == Activation::kClampedSwiglu;
    return mul(activate(gate, act), clamps ? affine(clamp(up, -kSwigluLimit, kSwigluLimit), 1, 1) : up);
  }
  FOVEA_CHECK(gate.shape() == up.shape(), "gated: shapes {} and {} differ", gate.shape().to_string(),
              up.shape().to_string());
  Tensor y = Tensor::empty(gate.shape());
  const float *pg = gate.data(), *pu = up.data();
  float* py = y.data();
  for_elements(y.elements(), [&](int64_t begin, int64_t end) {
    kernels::activate_gate(act, pg + begin, pu + begin, end - begin, py + begin);
  });
  return y;
}

}  // namespace fovea::tensor
