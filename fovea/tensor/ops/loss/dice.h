#pragma once
#include "fovea/tensor/tensor.h"

namespace fovea::tensor {
// Sum over rows of 1 - (2 sum p t + smooth) / (sum p + sum t + smooth), [1] (Milletari et al., arXiv:1606.04797, with
// plain sums below): p [rows, n] probabilities, t [rows, n] masks in [0, 1], which get no gradient.
Tensor dice_loss(const Tensor& p, const Tensor& t, float smooth = 1);
}  // namespace fovea::tensor
