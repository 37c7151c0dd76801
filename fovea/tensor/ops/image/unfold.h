#pragma once
#include "fovea/tensor/ops/image/window.h"

namespace fovea::tensor {
// x [batch, channels, height, width] -> [batch, channels * size.h * size.w, places]: column p is what the window sees
// at place p, places row by row.
Tensor unfold(const Tensor& x, const Window& window);
// The sum of all windows put back: x of the given size; fold(unfold(x)) counts a pixel as often as windows see it.
Tensor fold(const Tensor& columns, HeightWidth image, const Window& window);
}  // namespace fovea::tensor
