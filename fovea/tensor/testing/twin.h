// Test helper: an op against its equation in plain loops and double.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "fovea/tensor/tensor.h"

namespace fovea::tensor {

// y has the shape, and its element i, in the order of memory, is want(i) within `tolerance` of 1 + |want|.
inline void expect_is(const Tensor& y, const Shape& shape, const std::function<double(int64_t)>& want,
                      double tolerance = 1e-5) {
  ASSERT_EQ(y.shape(), shape);
  for (int64_t i = 0; i < y.elements(); ++i) {
    const double w = want(i);
    ASSERT_NEAR(y.data()[i], w, tolerance * (1 + std::abs(w))) << "element " << i << " of " << shape.to_string();
  }
}

// Element [i, j, k, l] of a tensor of four dimensions; 0 outside.
inline double at4(const Tensor& x, int64_t i, int64_t j, int64_t k, int64_t l) {
  if (k < 0 || k >= x.dim(2) || l < 0 || l >= x.dim(3)) return 0;
  return x.data()[((i * x.dim(1) + j) * x.dim(2) + k) * x.dim(3) + l];
}

}  // namespace fovea::tensor
