// Functions of two values. b has a's shape, or is spread over it: dimensions are matched from the last one back, and
// those that b lacks or has once are repeated ([n] for every row, [rows, 1] for every column, [1] everywhere).
#pragma once
#include "fovea/tensor/tensor.h"

namespace fovea::tensor {
Tensor sub(const Tensor& a, const Tensor& b);
Tensor div(const Tensor& a, const Tensor& b);
Tensor add_spread(const Tensor& a, const Tensor& b);  // add and mul want equal shapes: a slip there is found
Tensor mul_spread(const Tensor& a, const Tensor& b);
// a where the condition is not 0, else b; all of one shape, and no gradient flows to the condition.
Tensor where(const Tensor& condition, const Tensor& a, const Tensor& b);
}  // namespace fovea::tensor
