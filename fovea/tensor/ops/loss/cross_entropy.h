#pragma once
#include <cstdint>
#include <span>

#include "fovea/tensor/tensor.h"

namespace fovea::tensor {
inline constexpr int32_t kNoTarget = -100;  // a row without a target; -1 is one too

// Sum over rows of -log softmax(logits)[target], [1], and how many rows had a target: batches of different counts add
// up, and backward(sum, 1 / count of all) gives the gradient of their mean.
struct CrossEntropy {
  Tensor sum;
  int64_t count = 0;
  Tensor mean() const;  // [1], differentiable; 0 where no row had a target
};
// logits [n, vocab_size]. `smoothing` moves that share of the target's weight to all words alike.
CrossEntropy cross_entropy(const Tensor& logits, std::span<const int32_t> targets, float smoothing = 0);
}  // namespace fovea::tensor
