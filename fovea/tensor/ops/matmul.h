#pragma once
#include "fovea/tensor/weight.h"

namespace fovea::tensor {
// y[t, r] = sum_c x[t, c] w[r, c] (+ bias[r]); x [n_tokens, cols], w [rows, cols] -> [n_tokens, rows].
// In `fast`, x is quantised once and the form is shared by every product of the same x: its values
// must not be written after the first. With a tape, or without an Exec, numerics are `exact`.
Tensor matmul(const Tensor& x, const Weight& w);
Tensor matmul(const Tensor& x, const Weight& w, const Weight& bias);  // bias may be !defined()
}  // namespace fovea::tensor
