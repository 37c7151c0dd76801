#pragma once
#include "fovea/tensor/tensor.h"

namespace fovea::tensor {
// y = x * sigmoid(x)
Tensor silu(const Tensor& x);
// silu(gate) * up in one pass (SwiGLU, Shazeer, arXiv:2002.05202).
Tensor swiglu(const Tensor& gate, const Tensor& up);
}  // namespace fovea::tensor
