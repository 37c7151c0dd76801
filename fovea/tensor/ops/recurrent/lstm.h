#pragma once
#include "fovea/tensor/tensor.h"

namespace fovea::tensor {
// One step of the long short-term memory (Hochreiter & Schmidhuber 1997), after its products, as PyTorch has it:
// gates [batch, 4 d] = W_ih x + b_ih + W_hh h + b_hh, blocks i, f, g, o;
// c' = sigmoid(f) c + sigmoid(i) tanh(g), h' = sigmoid(o) tanh(c').
struct LstmState {
  Tensor h, c;  // [batch, d]
};
LstmState lstm_step(const Tensor& gates, const Tensor& c);
}  // namespace fovea::tensor
