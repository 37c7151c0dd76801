// Functions of one value, element by element.
#pragma once
#include "fovea/tensor/tensor.h"

namespace fovea::tensor {
Tensor exp(const Tensor& x);
Tensor log(const Tensor& x);
Tensor sqrt(const Tensor& x);
Tensor square(const Tensor& x);
Tensor abs(const Tensor& x);  // slope 0 at 0
Tensor tanh(const Tensor& x);
Tensor sigmoid(const Tensor& x);
Tensor relu(const Tensor& x);      // slope 0 at 0
Tensor softplus(const Tensor& x);  // log(1 + e^x)
// x Phi(x), and what stands for it: 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), or x sigmoid(1.702 x).
enum class Gelu { kErf, kTanh, kQuick };
Tensor gelu(const Tensor& x, Gelu kind = Gelu::kErf);
Tensor clamp(const Tensor& x, float least, float most);         // slope 0 outside
Tensor affine(const Tensor& x, float factor, float shift = 0);  // factor x + shift
}  // namespace fovea::tensor
