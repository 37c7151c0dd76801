#include "fovea/train/solve/k_means.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "fovea/base/random.h"

namespace fovea::train {
namespace {

double square_distance(const Matrix& points, int64_t i, const Matrix& centres, int64_t c) {
  double sum = 0;
  for (int64_t d = 0; d < points.cols; ++d) {
    const double step = points(i, d) - centres(c, d);
    sum += step * step;
  }
  return sum;
}

void put(const Matrix& points, int64_t i, Matrix& centres, int64_t c) {
  std::copy_n(&points.values[static_cast<size_t>(i * points.cols)], points.cols,
              &centres.values[static_cast<size_t>(c * points.cols)]);
}

// Each centre is a point, taken with a chance that grows with the square of its distance to the centres before.
Matrix spread(const Matrix& points, int64_t k, Rng& rng) {
  Matrix centres(k, points.cols);
  std::vector<double> nearest(static_cast<size_t>(points.rows), std::numeric_limits<double>::infinity());
  for (int64_t c = 0; c < k; ++c) {
    double total = 0;
    for (const double square : nearest) total += square;
    int64_t taken = static_cast<int64_t>(rng.below(static_cast<uint64_t>(points.rows)));
    if (c > 0 && total > 0) {
      double left = rng.uniform() * total;
      for (int64_t i = 0; i < points.rows; ++i) {
        if (nearest[static_cast<size_t>(i)] == 0) continue;
        taken = i;
        if ((left -= nearest[static_cast<size_t>(i)]) < 0) break;
      }
    }
    put(points, taken, centres, c);
    for (int64_t i = 0; i < points.rows; ++i) {
      double& least = nearest[static_cast<size_t>(i)];
      least = std::min(least, square_distance(points, i, centres, c));
    }
  }
  return centres;
}

}  // namespace

Result<Clusters> k_means(const Matrix& points, int64_t k, uint64_t seed, int max_steps) {
  if (k < 1 || k > points.rows)
    return make_error(ErrorCode::kUsage, "k_means: {} clusters of {} points", k, points.rows);
  for (size_t i = 0; i < points.values.size(); ++i) {
    if (!std::isfinite(points.values[i]))
      return make_error(ErrorCode::kUsage, "k_means: point {}, column {} is {}", static_cast<int64_t>(i) / points.cols,
                        static_cast<int64_t>(i) % points.cols, points.values[i]);
  }
  Rng rng(seed);
  Clusters out{spread(points, k, rng), std::vector<int64_t>(static_cast<size_t>(points.rows), -1), 0, 0};
  std::vector<double> far(static_cast<size_t>(points.rows));
  while (true) {
    bool changed = false;
    out.squares = 0;
    for (int64_t i = 0; i < points.rows; ++i) {
      int64_t best = 0;
      double least = std::numeric_limits<double>::infinity();
      for (int64_t c = 0; c < k; ++c) {
        const double square = square_distance(points, i, out.centres, c);
        if (square < least) least = square, best = c;
      }
      int64_t& now = out.of[static_cast<size_t>(i)];
      changed = changed || now != best;
      now = best;
      far[static_cast<size_t>(i)] = least;
      out.squares += least;
    }
    if (!changed || out.n_steps >= max_steps) return out;
    ++out.n_steps;
    std::vector<int64_t> sizes(static_cast<size_t>(k));
    std::fill(out.centres.values.begin(), out.centres.values.end(), 0.0);
    for (int64_t i = 0; i < points.rows; ++i) {
      const int64_t c = out.of[static_cast<size_t>(i)];
      ++sizes[static_cast<size_t>(c)];
      for (int64_t d = 0; d < points.cols; ++d) out.centres(c, d) += points(i, d);
    }
    for (int64_t c = 0; c < k; ++c) {
      const auto size = static_cast<double>(sizes[static_cast<size_t>(c)]);
      for (int64_t d = 0; size > 0 && d < points.cols; ++d) out.centres(c, d) /= size;
      if (size > 0) continue;
      const auto farthest = std::max_element(far.begin(), far.end());
      put(points, farthest - far.begin(), out.centres, c);
      *farthest = 0;  // another empty one takes another
    }
  }
}

}  // namespace fovea::train
