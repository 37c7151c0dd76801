#pragma once
#include <cstdint>
#include <span>

#include "fovea/tensor/tensor.h"

namespace fovea::tensor {
// Mean over rows of -log softmax(logits)[target]; logits [n, vocab_size] -> [1]. target -1 skips a row.
Tensor cross_entropy(const Tensor& logits, std::span<const int32_t> targets);
}  // namespace fovea::tensor
