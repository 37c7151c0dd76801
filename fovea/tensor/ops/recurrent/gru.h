#pragma once
#include "fovea/tensor/tensor.h"

namespace fovea::tensor {
// One step of the gated recurrent unit (Cho et al., arXiv:1406.1078), after its products, as PyTorch has it:
// from_x [batch, 3 d] = W_ih x + b_ih and from_h [batch, 3 d] = W_hh h + b_hh, blocks r, z, n;
// n = tanh(x_n + sigmoid(x_r + h_r) h_n), z = sigmoid(x_z + h_z), h' = (1 - z) n + z h.
Tensor gru_step(const Tensor& from_x, const Tensor& from_h, const Tensor& h);
}  // namespace fovea::tensor
