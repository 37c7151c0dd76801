// Lloyd's k-means from centres spread by k-means++ (Arthur and Vassilvitskii, SODA 2007).
#pragma once

#include "fovea/base/result.h"
#include "fovea/train/solve/matrix.h"

namespace fovea::train {

struct Clusters {
  Matrix centres;           // [k, points.cols]
  std::vector<int64_t> of;  // each point's centre, the nearest, of equal ones the first
  double squares = 0;       // the sum over points of the squared distance to it
  int n_steps = 0;
};
// Until no point changes its centre, or `max_steps`. A centre that loses all its points goes to the point farthest from
// its own. The same points, k and seed give the same clusters. kUsage unless 1 <= k <= points.rows and all are finite.
Result<Clusters> k_means(const Matrix& points, int64_t k, uint64_t seed, int max_steps = 100);

}  // namespace fovea::train
