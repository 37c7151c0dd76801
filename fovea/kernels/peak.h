// What one core can do at most, so that a benchmark can state a share of it.
#pragma once

#include <cstdint>

#include "fovea/kernels/isa.h"

namespace fovea::kernels {

// Each runs independent sums in registers only, and returns the operations done (two per product).
extern Dispatched<int64_t(int64_t rounds)> fma_peak;    // float32
extern Dispatched<int64_t(int64_t rounds)> int8_peak;   // u8 * s8 into int32
extern Dispatched<int64_t(int64_t rounds)> int16_peak;  // s16 * s16 into int32
extern Dispatched<int64_t(int64_t rounds)> bf16_peak;   // bf16 pairs into float32; 0 where the set has none

// Reads n bytes (a multiple of 256) once, 64-byte aligned; the result only keeps the loop alive.
extern Dispatched<int64_t(const void* from, int64_t n)> read_all;

}  // namespace fovea::kernels
