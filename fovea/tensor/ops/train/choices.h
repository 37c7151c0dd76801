// Choices along the last dimension, [..., n] as rows of n. Indices carry no gradient.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "fovea/tensor/tensor.h"

namespace fovea::tensor {
std::vector<int32_t> argmax(const Tensor& x);  // the first of the largest, of every row; NaN never counts
// The k largest of every row [rows, n], largest first, of equals the first.
struct TopK {
  Tensor values;                 // [rows, k], differentiable
  std::vector<int32_t> columns;  // [rows, k]
};
TopK top_k(const Tensor& x, int64_t k);
Tensor one_hot(std::span<const int32_t> columns, int64_t n);  // [columns, n]; a negative column gives zeros
}  // namespace fovea::tensor
