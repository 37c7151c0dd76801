#pragma once
#include <cstdint>
#include <span>

#include "fovea/tensor/tensor.h"

namespace fovea::tensor {
// y[i] = x[rows[i]] over the first dimension.
Tensor select_rows(const Tensor& x, std::span<const int32_t> rows);
}  // namespace fovea::tensor
