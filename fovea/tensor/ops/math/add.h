#pragma once
#include "fovea/tensor/tensor.h"

namespace fovea::tensor {
// y = a + b, same shapes.
Tensor add(const Tensor& a, const Tensor& b);
}  // namespace fovea::tensor
