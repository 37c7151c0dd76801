#include "fovea/tensor/ops/norm/batch_norm.h"

#include <gtest/gtest.h>

#include <cmath>

#include "fovea/base/check.h"
#include "fovea/tensor/testing/golden_tensors.h"
#include "fovea/tensor/testing/gradient_check.h"
#include "fovea/tensor/testing/thread_check.h"
#include "fovea/tensor/testing/twin.h"

namespace fovea::tensor {
namespace batch_norm_test {

using Inputs = const std::vector<Tensor>&;

TEST(BatchNorm, HasMeanZeroAndVarianceOneInEachChannel) {
  const Tensor x = random_tensor({5, 3, 7}, 1, 4.0);
  ChannelMoments seen;
  const Tensor y = batch_norm(x, {}, {}, 0.0f, &seen);
  for (int64_t c = 0; c < 3; ++c) {
    double sum = 0, squares = 0, mean = 0;
    for (int64_t i = 0; i < 35; ++i) {
      const int64_t at = (i / 7 * 3 + c) * 7 + i % 7;
      sum += y.data()[at], squares += double{y.data()[at]} * y.data()[at], mean += x.data()[at] / 35;
    }
    EXPECT_NEAR(sum / 35, 0, 1e-6);
    EXPECT_NEAR(squares / 35, 1, 1e-5);
    EXPECT_NEAR(seen.mean.data()[c], mean, 1e-6);
  }
}

TEST(BatchNorm, IsItsEquationAtOddSizes) {
  for (const int64_t places : {1, 3, 17}) {
    const Tensor x = random_tensor({5, 3, places}, 1, 3.0), w = random_tensor({3}, 2), bias = random_tensor({3}, 3);
    expect_is(batch_norm(x, w, bias, 1e-5f), x.shape(), [&](int64_t i) {
      const int64_t c = i / places % 3;
      double mean = 0, variance = 0;
      const auto n = static_cast<double>(5 * places);
      for (int64_t k = 0; k < x.elements(); ++k) mean += k / places % 3 == c ? x.data()[k] / n : 0;
      for (int64_t k = 0; k < x.elements(); ++k)
        variance += k / places % 3 == c ? (x.data()[k] - mean) * (x.data()[k] - mean) / n : 0;
      return (x.data()[i] - mean) / std::sqrt(variance + 1e-5) * w.data()[c] + bias.data()[c];
    });
  }
}

// With the moments that it saw, taken as constants, the values are the same but for n - 1 in place of n.
TEST(BatchNorm, TakesGivenMomentsAsConstants) {
  const Tensor x = random_tensor({3, 2, 4}, 1);
  const ChannelMoments moments{Tensor::from({2}, std::vector<float>{1, 0}),
                               Tensor::from({2}, std::vector<float>{4, 1})};
  const Tensor y = batch_norm(x, {}, {}, 0.0f, moments);
  EXPECT_FLOAT_EQ(y.data()[0], (x.data()[0] - 1) / 2);
  EXPECT_FLOAT_EQ(y.data()[4], x.data()[4]);
  expect_gradients({x}, [&] { return batch_norm(x, {}, {}, 1e-2f, moments); });
}

TEST(BatchNorm, GradientsMeetFiniteDifferences) {
  const Tensor x = random_tensor({3, 2, 4}, 1), w = random_tensor({2}, 2), bias = random_tensor({2}, 3);
  expect_gradients({x, w, bias}, [&] { return batch_norm(x, w, bias, 1e-2f); });
  expect_gradients({bias}, [&] { return batch_norm(x, w, bias, 1e-2f); });
}

TEST(BatchNorm, IsWhatPyTorchGives) {
  expect_op_golden("batch_norm", [](Inputs in) { return batch_norm(in[0], in[1], in[2], 1e-5f); });
}

TEST(BatchNorm, HasTheSameBitsOnAnyThreads) {
  const Tensor x = random_tensor({4, 12, 37, 29}, 1), w = random_tensor({12}, 2), bias = random_tensor({12}, 3);
  expect_same_bits_on_any_threads({x, w, bias}, [&] { return batch_norm(x, w, bias, 1e-5f); });
}

TEST(BatchNorm, RefusesOtherChannelsAndMissingMoments) {
  EXPECT_THROW(batch_norm(Tensor::zeros({2, 3, 2}), Tensor::zeros({2}), {}, 1e-5f), CheckFailed);
  EXPECT_THROW(batch_norm(Tensor::zeros({2, 3, 2}), {}, {}, 1e-5f, ChannelMoments{Tensor::zeros({3}), {}}),
               CheckFailed);
}

}  // namespace batch_norm_test
}  // namespace fovea::tensor
