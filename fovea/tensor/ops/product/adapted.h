// A product with a weight that an adapter changes, out of differentiable ops. For this room only.
#pragma once
#include <cstdint>
#include <span>

#include "fovea/tensor/adapters.h"

namespace fovea::tensor {
// y = matmul(x, w, bias) of w as it is becomes the product with what stands for w in each row. Where all rows are
// masked, y may be !defined().
Tensor change_product(Tensor y, const Tensor& x, const Weight& w, const Weight& bias);
// y = embed(w, tokens) likewise.
Tensor change_rows(Tensor y, std::span<const int32_t> tokens, const Weight& w);
}  // namespace fovea::tensor
