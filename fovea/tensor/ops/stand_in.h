// Plain loops in place of kernels that are not there yet; float32 only. For this room only.
#pragma once

#include <algorithm>
#include <cstdint>

#include "fovea/base/check.h"
#include "fovea/kernels/matmul.h"

namespace fovea::tensor::stand_in {

inline void dequantize(kernels::DType dtype, const void* blocks, int64_t n, float* out) {
  FOVEA_CHECK(dtype == kernels::DType::kF32, "{} needs its kernel", kernels::dtype_info(dtype).name);
  std::copy_n(static_cast<const float*>(blocks), n, out);
}

inline bool uses_quantized(kernels::DType, int64_t, kernels::Numerics) { return false; }
inline size_t matmul_scratch_bytes(const kernels::WeightView&) { return 0; }
inline size_t packed_bytes(const kernels::WeightView&) { return 0; }
inline size_t quantized_bytes(int64_t, int64_t) { return 0; }
inline void pack_weights(const kernels::WeightView&, int64_t, int64_t, void*) {}
inline void quantize_activations(const float*, int64_t, int64_t, int64_t, int64_t, int64_t, void*) {}

inline void matmul(const kernels::MatmulArgs& args) {
  FOVEA_CHECK(args.w.dtype == kernels::DType::kF32, "{} needs its kernel", kernels::dtype_info(args.w.dtype).name);
  const float* w = static_cast<const float*>(args.w.data);
  for (int64_t r = args.row_begin; r < args.row_end; ++r) {
    for (int64_t t = args.token_begin; t < args.token_end; ++t) {
      const float *a = args.x + t * args.ld_x, *b = w + r * args.w.cols;
      float part[8] = {};
      int64_t c = 0;
      for (; c + 8 <= args.w.cols; c += 8) {
        for (int64_t i = 0; i < 8; ++i) part[i] += a[c + i] * b[c + i];
      }
      float sum = 0;
      for (const float p : part) sum += p;
      for (; c < args.w.cols; ++c) sum += a[c] * b[c];
      args.y[t * args.ld_y + r] = sum + (args.bias ? args.bias[r] : 0.0f);
    }
  }
}

}  // namespace fovea::tensor::stand_in
