// Ops that move values: each copies, and the result is contiguous. Gradients go back where the values came from.
#pragma once
#include <initializer_list>
#include <span>
#include <vector>

#include "fovea/tensor/tensor.h"

namespace fovea::tensor {
Tensor slice(const Tensor& x, int dim, int64_t begin, int64_t end);  // [begin, end) of a dimension
Tensor concat(const std::vector<Tensor>& parts, int dim);            // equal shapes but in `dim`
Tensor permute(const Tensor& x, std::initializer_list<int> order);   // y's dimension i is x's order[i]
Tensor pad(const Tensor& x, int dim, int64_t before, int64_t after, float value = 0);
Tensor repeat(const Tensor& x, int dim, int64_t times);                             // the whole, one after the other
Tensor gather(const Tensor& x, std::span<const int32_t> columns, int64_t per_row);  // y[r, i] = x[r, columns[r, i]]
// y [n_rows, ...] of zeros with y[rows[i]] += x[i]: what select_rows takes apart.
Tensor scatter_add(const Tensor& x, std::span<const int32_t> rows, int64_t n_rows);
}  // namespace fovea::tensor
