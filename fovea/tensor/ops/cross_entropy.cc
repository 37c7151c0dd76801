#include "fovea/tensor/ops/cross_entropy.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "fovea/base/check.h"
#include "fovea/tensor/ops/for_rows.h"
#include "fovea/tensor/tape.h"

namespace fovea::tensor {
namespace {

// log(sum(exp(x)))
double log_sum_exp(const float* x, int64_t n) {
  const float top = *std::max_element(x, x + n);
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += std::exp(static_cast<double>(x[i]) - top);
  return top + std::log(sum);
}

}  // namespace

Tensor cross_entropy(const Tensor& logits, std::span<const int32_t> targets) {
  FOVEA_CHECK(logits.shape().rank() == 2 && logits.dim(0) == static_cast<int64_t>(targets.size()) && logits.dim(1) > 0,
              "cross_entropy: logits {} for {} targets", logits.shape().to_string(), targets.size());
  const int64_t n = logits.dim(0), vocab_size = logits.dim(1);
  int64_t counted = 0;
  for (const int32_t target : targets) {
    FOVEA_CHECK(target >= -1 && target < vocab_size, "cross_entropy: target {} is not in [-1, {})", target, vocab_size);
    counted += target >= 0;
  }
  std::vector<double> lse(targets.size());  // double: a loss near 0 is a small difference of large numbers
  for_rows(n, vocab_size, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t)
      lse[static_cast<size_t>(t)] = log_sum_exp(logits.data() + t * vocab_size, vocab_size);
  });
  double sum = 0;
  for (int64_t t = 0; t < n; ++t) {
    const int32_t target = targets[static_cast<size_t>(t)];
    if (target >= 0) sum += lse[static_cast<size_t>(t)] - logits.data()[t * vocab_size + target];
  }
  Tensor loss = Tensor::empty({1});
  const double mean = counted > 0 ? 1.0 / static_cast<double>(counted) : 0.0;
  loss.data()[0] = static_cast<float>(sum * mean);
  // dlogits = (softmax(logits) - onehot(target)) dloss / counted
  if (Tape* tape = current_tape()) {
    tape->record(loss, {logits},
                 [logits, loss, lse, mean, n, vocab_size,
                  wanted = std::vector<int32_t>(targets.begin(), targets.end())](Tape& t) {
                   const double factor = t.grad(loss).data()[0] * mean;
                   const float* x = logits.data();
                   float* dx = t.grad(logits).data();
                   for_rows(n, vocab_size, [&](int64_t begin, int64_t end) {
                     for (int64_t r = begin; r < end; ++r) {
                       const int32_t target = wanted[static_cast<size_t>(r)];
                       if (target < 0) continue;
                       for (int64_t c = 0; c < vocab_size; ++c) {
                         const double p = std::exp(x[r * vocab_size + c] - lse[static_cast<size_t>(r)]);
                         dx[r * vocab_size + c] += static_cast<float>(factor * (p - (c == target ? 1.0 : 0.0)));
                       }
                     }
                   });
                 });
  }
  return loss;
}

}  // namespace fovea::tensor
