#pragma once
#include "fovea/kernels/activations.h"
#include "fovea/tensor/tensor.h"

namespace fovea::tensor {
using kernels::Activation;

Tensor activate(const Tensor& x, Activation act);
Tensor gated(const Tensor& gate, const Tensor& up, Activation act);  // act(gate) * up, as kernels::activate_gate
}  // namespace fovea::tensor
