// Losses summed over all elements, [1]: divide by the count that the mean is to be over (affine, or backward's seed).
#pragma once
#include "fovea/tensor/tensor.h"

namespace fovea::tensor {
Tensor squared_error(const Tensor& x, const Tensor& target);   // sum (x - target)^2
Tensor absolute_error(const Tensor& x, const Tensor& target);  // sum |x - target|
// -sum target log s + (1 - target) log(1 - s), s = sigmoid(logits); targets in [0, 1], no gradient to them
Tensor binary_cross_entropy(const Tensor& logits, const Tensor& target);
// sum p (log p - log q) over given log-probabilities; gradients to both
Tensor kl_divergence(const Tensor& log_p, const Tensor& log_q);
}  // namespace fovea::tensor
