#include "fovea/tensor/ops/loss/cross_entropy.h"

#include <cmath>
#include <vector>

#include "fovea/base/check.h"
#include "fovea/kernels/gradients.h"
#include "fovea/tensor/ops/for_rows.h"
#include "fovea/tensor/tape.h"

namespace fovea::tensor {
namespace {

struct Row {
  float top, sum;  // the largest logit, and the sum of e^(logit - top)
};

double total(const float* x, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += x[i];
  return sum;
}

}  // namespace

Tensor CrossEntropy::mean() const {
  Tensor y = Tensor::empty({1});
  const float by = count > 0 ? 1.0f / static_cast<float>(count) : 0.0f;
  y.data()[0] = sum.data()[0] * by;
  if (Tape* tape = current_tape()) {
    tape->record(y, {sum}, [by, sum = ValueId(sum), y = ValueId(y)](Tape& t) {
      t.grad(sum).data()[0] += by * t.grad(y).data()[0];
    });
  }
  return y;
}

CrossEntropy cross_entropy(const Tensor& logits, std::span<const int32_t> targets, float smoothing) {
  FOVEA_CHECK(logits.shape().rank() == 2 && logits.dim(0) == static_cast<int64_t>(targets.size()) && logits.dim(1) > 0,
              "cross_entropy: logits {} for {} targets", logits.shape().to_string(), targets.size());
  const int64_t n = logits.dim(0), vocab_size = logits.dim(1);
  CrossEntropy loss{.sum = Tensor::empty({1})};
  for (const int32_t target : targets) {
    FOVEA_CHECK(target < vocab_size && (target >= -1 || target == kNoTarget),
                "cross_entropy: target {} is neither in [0, {}) nor -1 or {}", target, vocab_size, kNoTarget);
    loss.count += target >= 0;
  }
  std::vector<Row> rows(targets.size());
  std::vector<double> losses(targets.size());
  const float* x = logits.data();
  for_rows(n, vocab_size, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const int32_t target = targets[static_cast<size_t>(r)];
      if (target < 0) continue;
      Row& row = rows[static_cast<size_t>(r)];
      const float* at = x + r * vocab_size;
      row.sum = kernels::exp_sum(at, vocab_size, &row.top);
      // The largest is taken off before the logarithm is added: a loss near 0 is no difference of large numbers.
      double& out = losses[static_cast<size_t>(r)];
      out = (double{row.top} - at[target]) + std::log(double{row.sum});
      if (smoothing > 0) out += smoothing * (at[target] - total(at, vocab_size) / static_cast<double>(vocab_size));
    }
  });
  double sum = 0;
  for (const double one : losses) sum += one;
  loss.sum.data()[0] = static_cast<float>(sum);
  // dlogits = (softmax(logits) - (1 - smoothing) onehot(target) - smoothing / vocab_size) dsum
  if (Tape* tape = current_tape()) {
    tape->record(loss.sum, {logits},
                 [logits, rows, smoothing, n, vocab_size, sum = ValueId(loss.sum),
                  wanted = std::vector<int32_t>(targets.begin(), targets.end())](Tape& t) {
                   bool first = false;
                   const float dsum = t.grad(sum).data()[0];
                   const float* in = logits.data();
                   float* dx = t.grad(logits, first).data();
                   for_rows(n, vocab_size, [&](int64_t begin, int64_t end) {
                     for (int64_t r = begin; r < end; ++r) {
                       const int32_t target = wanted[static_cast<size_t>(r)];
                       float* to = dx + r * vocab_size;
                       if (target < 0) {
                         for (int64_t c = 0; c < vocab_size && first; ++c) to[c] = 0;
                         continue;
                       }
                       const Row& row = rows[static_cast<size_t>(r)];
                       kernels::exp_scaled(in + r * vocab_size, vocab_size, row.top, dsum / row.sum, !first, to);
                       to[target] -= dsum * (1 - smoothing);
                       const float share = dsum * smoothing / static_cast<float>(vocab_size);
                       for (int64_t c = 0; c < vocab_size && smoothing > 0; ++c) to[c] -= share;
                     }
                   });
                 });
  }
  return loss;
}

}  // namespace fovea::tensor
