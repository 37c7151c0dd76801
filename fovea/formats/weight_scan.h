// Looks for weights that are not numbers without unpacking them: a block type's weights are
// scale * code + offset with finite codes, so they are finite if its half-float scales are.
#pragma once

#include <cstdint>

#include "fovea/formats/source.h"

namespace fovea::formats {

// NaN or Inf values (float types) or blocks with such a scale (block types). 0 for types whose
// layout Fovea does not know (dtype_info().native is false).
uint64_t count_non_finite(const TensorInfo& tensor);

}  // namespace fovea::formats
