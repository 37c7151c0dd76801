// Weights to the block types of GGUF: for each block the scales, minima and codes with the least weighted squared
// error that a search finds. The same bytes on every instruction set.
#pragma once

#include <cstdint>

#include "fovea/kernels/dtype.h"
#include "fovea/kernels/isa.h"

namespace fovea::kernels {

// F32, F16, BF16, Q4_0 to Q8_0, Q2_K to Q6_K, IQ4_NL, IQ4_XS, MXFP4, TQ2_0.
bool can_quantize(DType type);

// A row of n finite floats, a whole number of blocks of `type`, to `out`, row_bytes(type, n). `importance`: how much
// the squared error of each column counts, n numbers >= 0, or null for 1 each. Values past F16's range become its
// largest.
extern Dispatched<void(DType type, const float* x, const float* importance, int64_t n, void* out)> quantize_weights;

}  // namespace fovea::kernels
