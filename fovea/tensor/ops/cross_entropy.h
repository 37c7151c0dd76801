#pragma once
#include <cstdint>
#include <span>

#include "fovea/tensor/tensor.h"

namespace fovea::tensor {
// Mean over rows of -log softmax(logits)[target]; logits [n, vocab_size] -> [1]. Target -1 skips a row;
// if all are skipped the loss is 0.
Tensor cross_entropy(const Tensor& logits, std::span<const int32_t> targets);
}  // namespace fovea::tensor
