// Least squares with a ridge, and the singular value decomposition of small matrices; both by Eigen.
#pragma once

#include "fovea/base/result.h"
#include "fovea/train/solve/matrix.h"

namespace fovea::train {

// The W [x.cols, y.cols] of least |x W - y|^2 + lambda |W|^2, by Cholesky. kUsage if the rows differ, lambda is
// negative or a number is not finite; kData if x^T x + lambda I is singular.
Result<Matrix> ridge(const Matrix& x, const Matrix& y, double lambda);

// a = u diag(s) v^T: u [rows, n], v [cols, n], s falling, n = min(rows, cols). Of each column of u the entry of largest
// size is positive, so that the same a gives the same u and v.
struct Svd {
  Matrix u, v;
  std::vector<double> s;
};
Result<Svd> svd(const Matrix& a);

}  // namespace fovea::train
