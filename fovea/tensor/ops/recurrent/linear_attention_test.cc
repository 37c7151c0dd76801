#include "fovea/tensor/ops/recurrent/linear_attention.h"

#include <gtest/gtest.h>

#include "fovea/base/check.h"
#include "fovea/tensor/ops/math/unary.h"
#include "fovea/tensor/testing/golden_tensors.h"
#include "fovea/tensor/testing/gradient_check.h"
#include "fovea/tensor/testing/thread_check.h"

namespace fovea::tensor {
namespace linear_attention_test {

using Inputs = const std::vector<Tensor>&;

// y[t] = sum over s <= t of (q[t] . k[s] decayed) v[s], in double.
Tensor plain(const Tensor& q, const Tensor& k, const Tensor& v, int64_t heads, const Tensor& decay) {
  const int64_t batch = q.dim(0), n = q.dim(1), kd = q.dim(2) / heads, vd = v.dim(2) / heads;
  Tensor y = Tensor::zeros(v.shape());
  for (int64_t b = 0; b < batch; ++b) {
    for (int64_t h = 0; h < heads; ++h) {
      for (int64_t t = 0; t < n; ++t) {
        std::vector<double> kept(static_cast<size_t>(kd), 1.0);
        for (int64_t s = t; s >= 0; --s) {
          double score = 0;
          for (int64_t i = 0; i < kd; ++i) {
            const int64_t at = (b * n + s) * heads * kd + h * kd + i;
            score += kept[static_cast<size_t>(i)] * k.data()[at] * q.data()[(b * n + t) * heads * kd + h * kd + i];
            if (decay.defined()) kept[static_cast<size_t>(i)] *= decay.data()[at];
          }
          for (int64_t j = 0; j < vd; ++j)
            y.data()[(b * n + t) * heads * vd + h * vd + j] +=
                static_cast<float>(score * v.data()[(b * n + s) * heads * vd + h * vd + j]);
        }
      }
    }
  }
  return y;
}

// All is forgotten at every fifth.
Tensor with_zeros(const Tensor& decay) {
  Tensor some = Tensor::from(decay.shape(), decay.values());
  for (int64_t i = 0; i < some.elements(); i += 5) some.data()[i] = 0;
  return some;
}

TEST(LinearAttention, IsItsSumOverThePrefix) {
  for (const int64_t n : {1, 5, 15, 16, 17, 33, 63, 64, 65, 130}) {  // around chunks of 16 and of 64
    const Tensor q = random_tensor({2, n, 6}, 1), k = random_tensor({2, n, 6}, 2), v = random_tensor({2, n, 10}, 3);
    const Tensor decay = sigmoid(random_tensor({2, n, 6}, 4));
    for (const Tensor& by : {Tensor(), decay, with_zeros(decay)}) {
      const Tensor y = linear_attention(q, k, v, 2, by), twin = plain(q, k, v, 2, by);
      for (int64_t i = 0; i < y.elements(); ++i) ASSERT_NEAR(y.data()[i], twin.data()[i], 2e-4) << n << ", " << i;
    }
  }
}

TEST(LinearAttention, GradientsMeetFiniteDifferences) {
  const Tensor q = random_tensor({1, 5, 4}, 1), k = random_tensor({1, 5, 4}, 2), v = random_tensor({1, 5, 6}, 3);
  const Tensor decay = sigmoid(random_tensor({1, 5, 4}, 4));
  expect_gradients({q, k, v, decay}, [&] { return linear_attention(q, k, v, 2, decay); });
  expect_gradients({q, k, v}, [&] { return linear_attention(q, k, v, 2); });
  expect_gradients({k}, [&] { return linear_attention(q, k, v, 1); });
}

TEST(LinearAttention, GradientsGoOverTheEndsOfChunks) {
  const Tensor q = random_tensor({1, 35, 4}, 1), k = random_tensor({1, 35, 4}, 2), v = random_tensor({1, 35, 2}, 3);
  const Tensor decay = with_zeros(sigmoid(random_tensor({1, 35, 4}, 4)));
  expect_gradients({q, k, v, decay}, [&] { return linear_attention(q, k, v, 2, decay); });
  expect_gradients({decay}, [&] { return linear_attention(q, k, v, 2, decay); });
  const Tensor long_q = random_tensor({1, 70, 2}, 1), long_k = random_tensor({1, 70, 2}, 2);
  const Tensor long_v = random_tensor({1, 70, 3}, 3, 0.3);
  expect_gradients({long_q, long_k, long_v}, [&] { return linear_attention(long_q, long_k, long_v, 1); });
}

// Longer than a chunk.
TEST(LinearAttention, IsWhatPyTorchGives) {
  expect_op_golden("linear_attention", [](Inputs in) { return linear_attention(in[0], in[1], in[2], 2, in[3]); });
}

TEST(LinearAttention, HasTheSameBitsOnAnyThreads) {
  const Tensor q = random_tensor({2, 65, 24}, 1), k = random_tensor({2, 65, 24}, 2), v = random_tensor({2, 65, 24}, 3);
  expect_same_bits_on_any_threads({q, k, v}, [&] { return linear_attention(q, k, v, 3); });
  const Tensor decay = sigmoid(random_tensor({2, 65, 24}, 4));
  expect_same_bits_on_any_threads({q, k, v, decay}, [&] { return linear_attention(q, k, v, 3, decay); });
}

TEST(LinearAttention, RefusesShapesThatDoNotFit) {
  const Tensor x = Tensor::zeros({1, 4, 6});
  EXPECT_THROW(linear_attention(x, Tensor::zeros({1, 4, 4}), x, 2), CheckFailed);
  EXPECT_THROW(linear_attention(x, x, x, 4), CheckFailed);
  EXPECT_THROW(linear_attention(x, x, x, 2, Tensor::zeros({1, 3, 6})), CheckFailed);
}

}  // namespace linear_attention_test
}  // namespace fovea::tensor
