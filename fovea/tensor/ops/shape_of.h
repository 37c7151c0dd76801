// Shapes with a dimension changed, for ops along one dimension. For this room only.
#pragma once

#include <array>
#include <span>
#include <string_view>

#include "fovea/base/check.h"
#include "fovea/tensor/tensor.h"

namespace fovea::tensor {

inline Shape shape_of(const std::array<int64_t, kMaxRank>& d, int rank) {
  if (rank == 0) return {1};  // nothing is left of a vector but one value
  return Shape(std::span(d).first(static_cast<size_t>(rank)));
}

inline std::array<int64_t, kMaxRank> dims_of(const Shape& shape) {
  std::array<int64_t, kMaxRank> dims{};
  for (int i = 0; i < shape.rank(); ++i) dims[static_cast<size_t>(i)] = shape[i];
  return dims;
}

// The shape with `n` in dimension `dim`.
inline Shape with_dim(const Shape& shape, int dim, int64_t n) {
  std::array<int64_t, kMaxRank> dims = dims_of(shape);
  dims[static_cast<size_t>(dim)] = n;
  return shape_of(dims, shape.rank());
}

// A shape as [outer, n, inner] around dimension `dim` (negative counts from the end), and without it.
struct Around {
  Around(const Shape& shape, int dimension, std::string_view op)
      : dim(dimension < 0 ? dimension + shape.rank() : dimension) {
    FOVEA_CHECK(dim >= 0 && dim < shape.rank(), "{}: shape {} has no dimension {}", op, shape.to_string(), dimension);
    n = shape[dim];
    std::array<int64_t, kMaxRank> left{};
    for (int i = 0, to = 0; i < shape.rank(); ++i) {
      if (i < dim) outer *= shape[i];
      if (i > dim) inner *= shape[i];
      if (i != dim) left[static_cast<size_t>(to++)] = shape[i];
    }
    without = shape_of(left, shape.rank() - 1);
  }
  int dim;
  int64_t outer = 1, n = 0, inner = 1;
  Shape without;
};

}  // namespace fovea::tensor
