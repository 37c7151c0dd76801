// Numbers that are nearly normal and the same on every machine.
#pragma once

#include <cstdint>

#include "fovea/base/random.h"

namespace fovea::train {

// Mean 0 and deviation 1: twelve uniform numbers less 6, without a logarithm that a library rounds its own way. It has
// 24 bits at most, so that its product with a float is exact.
inline double bell(Rng& rng) {
  int64_t sum = 0;
  for (int i = 0; i < 12; ++i) sum += static_cast<int64_t>(rng.next() >> 44);
  return static_cast<double>(sum - 6 * ((int64_t{1} << 20) - 1)) * 0x1p-20;
}

}  // namespace fovea::train
