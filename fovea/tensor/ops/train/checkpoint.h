#pragma once
#include <functional>

#include "fovea/tensor/tensor.h"

namespace fovea::tensor {
// y = fn(x), of which the tape keeps x alone: in backward fn runs again, and what it made goes as soon as its gradients
// are passed on (Chen et al., arXiv:1604.06174). fn must give the same bits both times; what it reads besides x
// (watched weights too) must live until then, and gets its gradients as without. No value inside fn may be watched.
Tensor checkpoint(const Tensor& x, std::function<Tensor(const Tensor&)> fn);
}  // namespace fovea::tensor
