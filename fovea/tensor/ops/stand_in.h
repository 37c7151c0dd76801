// Plain loops in place of the kernels of kernels/matmul.h that are not there yet: right for every
// native dtype, slow, and always in float32. For this room only.
#pragma once

#include <cstdint>

#include "fovea/kernels/matmul.h"

namespace fovea::tensor::stand_in {

void dequantize(kernels::DType dtype, const void* blocks, int64_t n, float* out);
void matmul(const kernels::MatmulArgs& args);

inline size_t matmul_scratch_bytes(const kernels::WeightView& w) { return static_cast<size_t>(w.cols) * sizeof(float); }
inline bool uses_quantized(kernels::DType, int64_t, kernels::Numerics) { return false; }
inline size_t packed_bytes(const kernels::WeightView&) { return 0; }
inline size_t quantized_bytes(int64_t, int64_t) { return 0; }
inline void pack_weights(const kernels::WeightView&, int64_t, int64_t, void*) {}
inline void quantize_activations(const float*, int64_t, int64_t, int64_t, int64_t, int64_t, void*) {}

}  // namespace fovea::tensor::stand_in
