// Matrices as Eigen sees them. Included by the solvers' .cc files alone.
#pragma once

#include <Eigen/Dense>

#include "fovea/train/solve/matrix.h"

namespace fovea::train {

using RowMajor = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

inline Eigen::Map<const RowMajor> view(const Matrix& m) { return {m.values.data(), m.rows, m.cols}; }
inline Matrix to_matrix(const Eigen::MatrixXd& m) {
  Matrix out(m.rows(), m.cols());
  Eigen::Map<RowMajor>(out.values.data(), m.rows(), m.cols()) = m;
  return out;
}

}  // namespace fovea::train
