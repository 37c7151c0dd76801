#include "fovea/train/solve/linear.h"

#include <algorithm>
#include <cmath>

#include "fovea/train/solve/eigen.h"

namespace fovea::train {
namespace {

Status check_finite(const Matrix& m, const char* name) {
  for (size_t i = 0; i < m.values.size(); ++i) {
    if (!std::isfinite(m.values[i]))
      return make_error(ErrorCode::kUsage, "{}: row {}, column {} is {}", name, static_cast<int64_t>(i) / m.cols,
                        static_cast<int64_t>(i) % m.cols, m.values[i]);
  }
  return {};
}

}  // namespace

Result<Matrix> ridge(const Matrix& x, const Matrix& y, double lambda) {
  if (x.rows != y.rows) return make_error(ErrorCode::kUsage, "ridge: x has {} rows and y has {}", x.rows, y.rows);
  if (!(lambda >= 0) || !std::isfinite(lambda))
    return make_error(ErrorCode::kUsage, "ridge: lambda is {}; it must be 0 or more", lambda);
  FOVEA_RETURN_IF_ERROR(check_finite(x, "ridge: x"));
  FOVEA_RETURN_IF_ERROR(check_finite(y, "ridge: y"));
  const auto a = view(x);
  Eigen::MatrixXd gram = a.transpose() * a;
  gram.diagonal().array() += lambda;
  const Eigen::LLT<Eigen::MatrixXd> cholesky(gram);
  // What of a column the others do not make up, beside the column itself: the units it is measured in do not count.
  const Eigen::MatrixXd factor = cholesky.matrixL();
  const Eigen::ArrayXd own = factor.diagonal().array().square(), whole = gram.diagonal().array();
  if (cholesky.info() != Eigen::Success || (own <= 1e-13 * static_cast<double>(x.cols) * whole).any())
    return make_error(ErrorCode::kData, "ridge: the columns of x depend on each other; take a lambda above {}", lambda);
  return to_matrix(cholesky.solve(a.transpose() * view(y)));
}

Result<Svd> svd(const Matrix& a) {
  FOVEA_RETURN_IF_ERROR(check_finite(a, "svd"));
  if (a.rows == 0 || a.cols == 0) return make_error(ErrorCode::kUsage, "svd: {} x {} has no values", a.rows, a.cols);
  const Eigen::JacobiSVD<Eigen::MatrixXd, Eigen::ColPivHouseholderQRPreconditioner> solved(
      view(a), Eigen::ComputeThinU | Eigen::ComputeThinV);
  Eigen::MatrixXd u = solved.matrixU(), v = solved.matrixV();
  for (Eigen::Index c = 0; c < u.cols(); ++c) {
    Eigen::Index largest = 0;
    u.col(c).cwiseAbs().maxCoeff(&largest);
    if (u(largest, c) < 0) u.col(c) *= -1, v.col(c) *= -1;
  }
  const auto& s = solved.singularValues();
  return Svd{to_matrix(u), to_matrix(v), {s.data(), s.data() + s.size()}};
}

}  // namespace fovea::train
