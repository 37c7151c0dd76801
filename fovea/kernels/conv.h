// Convolutions whose windows are one pixel apart, straight from padded images: the matrix of what each window sees is
// never stored. With W [outputs, k] and column j of k at x[offsets[j] + place],
//   y = begin + W columns(x)     each element c = fma(w[j], x[j], c) for j rising, as sgemm has it
//   dW += dy columns(x)^T        lanes of places, image by image; then the lanes
// Places come in groups of 8 neighbours.
#pragma once

#include <cstddef>
#include <cstdint>

#include "fovea/kernels/isa.h"

namespace fovea::kernels {

inline constexpr int kPlaceGroup = 8;
inline constexpr int kPlaceGroups = 4;  // a whole number of so many groups

struct ConvArgs {
  int64_t k = 0, outputs = 0;
  const int64_t* offsets = nullptr;  // [k]
  const int64_t* groups = nullptr;   // [n_groups] where the groups of places begin; their 8 places lie side by side
  int64_t n_groups = 0;              // a multiple of kPlaceGroups
  bool in_rows = false;              // 16 places from every other group on lie side by side too
  const float* x = nullptr;
};

// W packed for conv(): [conv_panels(outputs)] of k steps; floats.
size_t conv_packed_floats(int64_t outputs, int64_t k);
int64_t conv_panels(int64_t outputs);
extern Dispatched<void(const float* w, int64_t outputs, int64_t k, float* out)> conv_pack;
// y [outputs, 8 n_groups], rows of some panels: from what it holds if `onto`, else from bias [outputs] or, null, zero.
extern Dispatched<void(const ConvArgs& args, const float* packed, const float* bias, bool onto, int64_t panel_begin,
                       int64_t panel_end, float* y)>
    conv;

// dw [outputs, k] of outputs [out_begin, out_end), from n images x_step and dy_step floats apart.
extern Dispatched<void(const ConvArgs& args, int64_t n, int64_t x_step, const float* dy, int64_t dy_step,
                       int64_t out_begin, int64_t out_end, float* dw)>
    conv_to_weights;

}  // namespace fovea::kernels
