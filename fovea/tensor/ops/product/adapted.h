// A product with a weight that an adapter changes, out of differentiable ops. For this room only.
#pragma once
#include <cstdint>
#include <span>

#include "fovea/tensor/adapters.h"

namespace fovea::tensor {
// mask * w, in float32.
Weight masked_weight(const Weight& w, const Mask& mask);
// y = matmul(x, w, bias) (of the masked w, if there is a mask) becomes the product with w'.
Tensor change_product(Tensor y, const Tensor& x, const Weight& bias, const Adapter& adapter);
// y = embed(w, tokens) likewise.
Tensor change_rows(Tensor y, std::span<const int32_t> tokens, const Adapter& adapter);
}  // namespace fovea::tensor
