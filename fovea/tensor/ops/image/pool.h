#pragma once
#include "fovea/tensor/ops/image/window.h"

namespace fovea::tensor {
// Over windows of every channel of x [batch, channels, height, width].
Tensor max_pool(const Tensor& x, const Window& window);  // what lies outside is no candidate; the first of the largest
enum class Outside { kCounts, kLeftOut };                // whether a mean divides by pixels outside too
Tensor mean_pool(const Tensor& x, const Window& window, Outside outside = Outside::kCounts);
}  // namespace fovea::tensor
