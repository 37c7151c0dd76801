// What one core can do at most, so that a benchmark can state a share of it.
#pragma once

#include <cstdint>

#include "fovea/kernels/isa.h"

namespace fovea::kernels {

// Runs independent multiply-adds in registers only; returns the float operations done (two each).
extern Dispatched<int64_t(int64_t rounds)> fma_peak;

}  // namespace fovea::kernels
