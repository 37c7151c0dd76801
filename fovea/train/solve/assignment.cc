#include "fovea/train/solve/assignment.h"

#include <cmath>
#include <limits>

namespace fovea::train {

// Each row in turn is added by a shortest path in reduced costs cost(r, c) - u[r] - v[c] >= 0, which are 0 where a
// column is taken, from the row to a free column (Dijkstra); u and v are then moved so that this stays so.
Result<std::vector<int64_t>> assign(const Matrix& cost) {
  if (cost.rows > cost.cols)
    return make_error(ErrorCode::kUsage, "assign: {} rows cannot have a column each of {}", cost.rows, cost.cols);
  for (size_t i = 0; i < cost.values.size(); ++i) {
    if (!std::isfinite(cost.values[i]))
      return make_error(ErrorCode::kUsage, "assign: the cost of row {}, column {} is {}",
                        static_cast<int64_t>(i) / cost.cols, static_cast<int64_t>(i) % cost.cols, cost.values[i]);
  }
  const auto n_rows = static_cast<size_t>(cost.rows), n_cols = static_cast<size_t>(cost.cols);
  const size_t none = n_rows;
  std::vector<double> u(n_rows), v(n_cols);
  std::vector<size_t> row_of(n_cols, none);
  for (size_t first = 0; first < n_rows; ++first) {
    std::vector<double> far(n_cols, std::numeric_limits<double>::infinity());
    std::vector<size_t> before(n_cols, n_cols);  // the column by which a path comes to this one; n_cols: from `first`
    std::vector<bool> done(n_cols, false);
    size_t row = first, by = n_cols;
    double reached = 0;
    size_t last = n_cols;
    while (last == n_cols) {
      size_t next = n_cols;
      for (size_t c = 0; c < n_cols; ++c) {
        if (done[c]) continue;
        const double length = reached + cost.values[row * n_cols + c] - u[row] - v[c];
        if (length < far[c]) far[c] = length, before[c] = by;
        if (next == n_cols || far[c] < far[next]) next = c;
      }
      reached = far[next];
      done[next] = true;
      if (row_of[next] == none) {
        last = next;
      } else {
        row = row_of[next], by = next;
      }
    }
    u[first] += reached;
    for (size_t c = 0; c < n_cols; ++c) {
      if (!done[c] || c == last) continue;
      u[row_of[c]] += reached - far[c];
      v[c] -= reached - far[c];
    }
    for (size_t c = last; c != n_cols; c = before[c]) row_of[c] = before[c] == n_cols ? first : row_of[before[c]];
  }
  std::vector<int64_t> out(n_rows);
  for (size_t c = 0; c < n_cols; ++c) {
    if (row_of[c] != none) out[row_of[c]] = static_cast<int64_t>(c);
  }
  return out;
}

}  // namespace fovea::train
