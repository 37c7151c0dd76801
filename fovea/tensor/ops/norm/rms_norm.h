#pragma once
#include "fovea/tensor/ops/next.h"
#include "fovea/tensor/weight.h"

namespace fovea::tensor {
// y = x / sqrt(mean(x^2) + eps) * weight over the last dimension. Zhang & Sennrich, arXiv:1910.07467
Tensor rms_norm(const Tensor& x, const Weight& weight, float eps, Next next = Next::kAnything);

// Its parts, for hooks: rms_norm = scale_columns(rms_normalize(x, rms_scale(x, eps)), weight).
// scale = sqrt(mean(x^2) + eps), [n_rows, 1]
Tensor rms_scale(const Tensor& x, float eps);
// x / scale, row by row; `scale` may have been edited. The second form takes its own scale.
Tensor rms_normalize(const Tensor& x, const Tensor& scale);
Tensor rms_normalize(const Tensor& x, float eps);
// y[t, c] = x[t, c] * weight[c]
Tensor scale_columns(const Tensor& x, const Weight& weight);
}  // namespace fovea::tensor
