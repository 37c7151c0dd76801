// Strictly convex quadratic programs, as of the largest margin: the dual active-set method of Goldfarb and Idnani,
// Mathematical Programming 27, 1983. Exact but for rounding; for some hundreds of variables and rows.
#pragma once

#include "fovea/base/result.h"
#include "fovea/train/solve/matrix.h"

namespace fovea::train {

struct Quadratic {
  std::vector<double> x;
  std::vector<double> multipliers;  // of each row of `a`, 0 or more; 0 where a x > b
  double value = 0;                 // x^T h x / 2 + g^T x
};
// The x of least x^T h x / 2 + g^T x with a x >= b; h [n, n] symmetric and positive definite, a [m, n]. kUsage if
// shapes or numbers are wrong, kData if h is not definite or no x satisfies all rows.
Result<Quadratic> min_quadratic(const Matrix& h, const std::vector<double>& g, const Matrix& a,
                                const std::vector<double>& b);

}  // namespace fovea::train
