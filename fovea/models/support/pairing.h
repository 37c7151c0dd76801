// The rows of q and k in files: those that turn together are neighbours, or lie half a head apart.
#pragma once

#include <cstdint>

#include "fovea/models/support/config.h"
#include "fovea/tensor/parameter.h"

namespace fovea::models {

// Where row `row` of a weight or bias stands in files that pair rows as `there`, if it is at `row` in those that do it
// as `here`.
int64_t paired_row(int64_t row, const tensor::Parameter& p, tensor::RopePairing here, tensor::RopePairing there,
                   const Config& config);

}  // namespace fovea::models
