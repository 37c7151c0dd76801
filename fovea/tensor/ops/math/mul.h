#pragma once
#include "fovea/tensor/tensor.h"

namespace fovea::tensor {
// y = a * b element by element, same shapes.
Tensor mul(const Tensor& a, const Tensor& b);
}  // namespace fovea::tensor
