#pragma once
#include "fovea/tensor/tensor.h"

namespace fovea::tensor {
// InfoNCE (van den Oord et al., arXiv:1807.03748): row i of `a` belongs to row i of `b` and to no other. The sum over i
// of -log softmax(scale cos(a[i], b[.]))[i], [1]. a and b [n, d]; scale [1], 1 / temperature, gets a gradient too.
Tensor info_nce(const Tensor& a, const Tensor& b, const Tensor& scale);
// The mean over the rows of both directions, [1], as CLIP has it (Radford et al., arXiv:2103.00020).
Tensor contrastive_loss(const Tensor& a, const Tensor& b, const Tensor& scale);
}  // namespace fovea::tensor
