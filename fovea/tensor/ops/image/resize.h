#pragma once
#include "fovea/tensor/ops/image/window.h"

namespace fovea::tensor {
// kCubic is Keys' (1981): a = -0.75, with `antialias` -0.5, as PyTorch and Pillow have it.
enum class Filter { kNearest, kLinear, kCubic };
struct Resize {
  Filter filter = Filter::kLinear;
  bool antialias = false;      // where it gets smaller the filter widens with the step
  bool align_corners = false;  // the centres of the corner pixels stay at the corners (kLinear, kCubic)
};
// x [batch, channels, height, width] at another size. Each output is a sum of a few inputs along one side, then along
// the other; at an edge the filter sees the edge again, or with `antialias` what is inside alone.
Tensor resize(const Tensor& x, HeightWidth to, const Resize& how = {});
// Every pixel factor x factor times.
Tensor upsample(const Tensor& x, int64_t factor, Filter filter = Filter::kNearest);
}  // namespace fovea::tensor
