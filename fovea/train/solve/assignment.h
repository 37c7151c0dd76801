// Which column each row gets, so that the sum of the costs is least: Kuhn's Hungarian method in the O(rows^2 columns)
// form of shortest augmenting paths (Jonker and Volgenant, Computing 38, 1987).
#pragma once

#include "fovea/base/result.h"
#include "fovea/train/solve/matrix.h"

namespace fovea::train {

// A column for each row, no column twice. kUsage with more rows than columns, or a cost that is not finite.
Result<std::vector<int64_t>> assign(const Matrix& cost);

}  // namespace fovea::train
