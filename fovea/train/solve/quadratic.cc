#include "fovea/train/solve/quadratic.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "fovea/train/solve/eigen.h"

namespace fovea::train {
namespace {

using Eigen::MatrixXd;
using Eigen::VectorXd;

Status check(const Matrix& h, const std::vector<double>& g, const Matrix& a, const std::vector<double>& b) {
  const auto n = static_cast<int64_t>(g.size()), m = static_cast<int64_t>(b.size());
  if (h.rows != n || h.cols != n || a.rows != m || (m > 0 && a.cols != n))
    return make_error(ErrorCode::kUsage, "min_quadratic: h is {} x {}, a {} x {}, with {} values of g and {} of b",
                      h.rows, h.cols, a.rows, a.cols, n, m);
  for (const std::vector<double>* values : {&h.values, &g, &a.values, &b}) {
    if (!std::all_of(values->begin(), values->end(), [](double v) { return std::isfinite(v); }))
      return make_error(ErrorCode::kUsage, "min_quadratic: a number is not finite");
  }
  return {};
}

}  // namespace

// x is always the best for the rows in `active`, whose multipliers are u. The row that is broken most is moved towards:
// along z, which keeps the active rows as they are, while their multipliers change by -r.
Result<Quadratic> min_quadratic(const Matrix& h, const std::vector<double>& g, const Matrix& a,
                                const std::vector<double>& b) {
  FOVEA_RETURN_IF_ERROR(check(h, g, a, b));
  const auto n = static_cast<Eigen::Index>(g.size());
  const MatrixXd hessian = view(h), rows = view(a);
  const Eigen::LLT<MatrixXd> cholesky(hessian);
  if (cholesky.info() != Eigen::Success)
    return make_error(ErrorCode::kData, "min_quadratic: h is not positive definite");
  const Eigen::Map<const VectorXd> linear(g.data(), n);
  VectorXd x = -cholesky.solve(linear);
  std::vector<Eigen::Index> active;
  std::vector<double> u;
  const auto broken = [&](Eigen::Index row) { return b[static_cast<size_t>(row)] - rows.row(row).dot(x); };
  const auto rounding = [&](Eigen::Index row) {
    return 1e-12 * (std::abs(b[static_cast<size_t>(row)]) + rows.row(row).cwiseAbs().dot(x.cwiseAbs()) + 1e-300);
  };
  for (int64_t left = 50 * (a.rows + n) + 100;;) {
    Eigen::Index worst = -1;
    double most = 0;
    for (Eigen::Index row = 0; row < rows.rows(); ++row) {
      const double by = broken(row);
      if (by > rounding(row) && by > most && std::find(active.begin(), active.end(), row) == active.end())
        most = by, worst = row;
    }
    if (worst < 0) break;
    const VectorXd normal = rows.row(worst);
    double multiplier = 0;
    while (true) {
      if (--left < 0)
        return make_error(ErrorCode::kData, "min_quadratic: rounding hides the answer; scale the rows of a");
      const auto n_active = static_cast<Eigen::Index>(active.size());
      const VectorXd step = cholesky.solve(normal);
      VectorXd z = step, r(n_active);
      if (n_active > 0) {
        MatrixXd normals(n, n_active);
        for (Eigen::Index i = 0; i < n_active; ++i) normals.col(i) = rows.row(active[static_cast<size_t>(i)]);
        const MatrixXd steps = cholesky.solve(normals);
        r = (normals.transpose() * steps).ldlt().solve(normals.transpose() * step);
        z -= steps * r;
      }
      double until_gone = std::numeric_limits<double>::infinity(), until_met = until_gone;
      Eigen::Index gone = -1;
      for (Eigen::Index i = 0; i < n_active; ++i) {
        if (r(i) > 1e-13 && u[static_cast<size_t>(i)] / r(i) < until_gone)
          until_gone = u[static_cast<size_t>(i)] / r(i), gone = i;
      }
      const double slope = z.dot(normal);
      if (slope > 1e-12 * step.dot(normal)) until_met = broken(worst) / slope;
      const double t = std::min(until_gone, until_met);
      if (std::isinf(t)) return make_error(ErrorCode::kData, "min_quadratic: no x satisfies row {} and others", worst);
      for (Eigen::Index i = 0; i < n_active; ++i) u[static_cast<size_t>(i)] -= t * r(i);
      multiplier += t;
      if (std::isfinite(until_met)) x += t * z;
      if (until_met <= until_gone) {
        active.push_back(worst);
        u.push_back(multiplier);
        break;
      }
      active.erase(active.begin() + gone);
      u.erase(u.begin() + gone);
    }
  }
  Quadratic out{{x.data(), x.data() + n}, std::vector<double>(b.size()), x.dot(hessian * x) / 2 + linear.dot(x)};
  for (size_t i = 0; i < active.size(); ++i) out.multipliers[static_cast<size_t>(active[i])] = std::max(0.0, u[i]);
  return out;
}

}  // namespace fovea::train
