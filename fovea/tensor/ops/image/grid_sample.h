#pragma once
#include "fovea/tensor/tensor.h"

namespace fovea::tensor {
// y[b, c, i, j]: x [batch, channels, height, width] at the point grid[b, i, j] = (across, down), linear between pixels,
// 0 outside. -1 and 1 are the outer edges of the corner pixels, or with `align_corners` their centres. grid [batch,
// out_h, out_w, 2]; gradients to both (Jaderberg et al., arXiv:1506.02025).
Tensor grid_sample(const Tensor& x, const Tensor& grid, bool align_corners = false);
}  // namespace fovea::tensor
