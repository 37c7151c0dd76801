#pragma once
#include "fovea/tensor/tensor.h"

namespace fovea::tensor {
// y[i] = a[i] b[i] for matrices [m, k] and [k, n] in the last two dimensions; the dimensions before them are the same.
// A transposed side lies as [k, m] or [n, k].
struct Transposed {
  bool a = false, b = false;
};
Tensor batched_product(const Tensor& a, const Tensor& b, Transposed transposed = {});
}  // namespace fovea::tensor
