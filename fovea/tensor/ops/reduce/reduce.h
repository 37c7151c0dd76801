// Sums and their kin over one dimension, which goes (negative counts from the end), or over everything.
#pragma once
#include "fovea/tensor/tensor.h"

namespace fovea::tensor {
Tensor sum(const Tensor& x, int dim);
Tensor mean(const Tensor& x, int dim);
Tensor max(const Tensor& x, int dim);      // the gradient goes to the first of the largest
Tensor l2_norm(const Tensor& x, int dim);  // sqrt(sum x^2); slope 0 at 0
Tensor sum(const Tensor& x);               // [1]
Tensor mean(const Tensor& x);              // [1]
}  // namespace fovea::tensor
