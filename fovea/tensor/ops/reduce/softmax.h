// Over the last dimension.
#pragma once
#include "fovea/tensor/tensor.h"

namespace fovea::tensor {
Tensor softmax(const Tensor& x);      // a row of -inf becomes zeros
Tensor log_softmax(const Tensor& x);  // x - logsumexp(x)
Tensor logsumexp(const Tensor& x);    // the last dimension goes
}  // namespace fovea::tensor
