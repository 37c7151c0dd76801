#include "fovea/tensor/ops/norm/group_norm.h"

#include <gtest/gtest.h>

#include <cmath>

#include "fovea/base/check.h"
#include "fovea/tensor/testing/golden_tensors.h"
#include "fovea/tensor/testing/gradient_check.h"
#include "fovea/tensor/testing/thread_check.h"
#include "fovea/tensor/testing/twin.h"

namespace fovea::tensor {
namespace group_norm_test {

using Inputs = const std::vector<Tensor>&;

TEST(GroupNorm, HasMeanZeroAndVarianceOneInEachGroup) {
  const Tensor y = group_norm(random_tensor({2, 6, 3, 5}, 1, 4.0), 3, {}, {}, 0.0f);
  for (int64_t g = 0; g < 6; ++g) {
    double sum = 0, squares = 0;
    for (int64_t i = g * 30; i < (g + 1) * 30; ++i) sum += y.data()[i], squares += double{y.data()[i]} * y.data()[i];
    EXPECT_NEAR(sum / 30, 0, 1e-6);
    EXPECT_NEAR(squares / 30, 1, 1e-5);
  }
}

TEST(GroupNorm, OfAConstantIsItsBias) {
  Tensor x = Tensor::empty({1, 2, 3});
  std::fill_n(x.data(), 6, 7.0f);
  const Tensor y =
      group_norm(x, 1, Tensor::from({2}, std::vector<float>{5, 5}), Tensor::from({2}, std::vector<float>{1, 2}), 1e-5f);
  for (int64_t i = 0; i < 6; ++i) EXPECT_EQ(y.data()[i], i < 3 ? 1.0f : 2.0f);
}

TEST(GroupNorm, IsItsEquationAtOddSizes) {
  for (const int64_t places : {1, 3, 15, 37}) {
    for (const int64_t groups : {1, 3, 9}) {
      if (places * 9 / groups == 1) continue;  // one value alone is its bias
      const Tensor x = random_tensor({2, 9, places}, 1, 3.0), w = random_tensor({9}, 2), bias = random_tensor({9}, 3);
      expect_is(group_norm(x, groups, w, bias, 1e-5f), x.shape(), [&](int64_t i) {
        const int64_t n = 9 / groups * places, first = i / n * n, c = i / places % 9;
        double mean = 0, variance = 0;
        for (int64_t k = first; k < first + n; ++k) mean += x.data()[k] / static_cast<double>(n);
        for (int64_t k = first; k < first + n; ++k)
          variance += (x.data()[k] - mean) * (x.data()[k] - mean) / static_cast<double>(n);
        return (x.data()[i] - mean) / std::sqrt(variance + 1e-5) * w.data()[c] + bias.data()[c];
      });
    }
  }
}

TEST(GroupNorm, GradientsMeetFiniteDifferences) {
  const Tensor x = random_tensor({2, 4, 3}, 1), w = random_tensor({4}, 2), bias = random_tensor({4}, 3);
  for (const int64_t groups : {1, 2}) {
    expect_gradients({x, w, bias}, [&] { return group_norm(x, groups, w, bias, 1e-2f); });
    expect_gradients({x}, [&] { return group_norm(x, groups, {}, {}, 1e-2f); });
  }
}

TEST(GroupNorm, IsWhatPyTorchGives) {
  expect_op_golden("group_norm", [](Inputs in) { return group_norm(in[0], 3, in[1], in[2], 1e-5f); });
}

TEST(GroupNorm, HasTheSameBitsOnAnyThreads) {
  const Tensor x = random_tensor({4, 12, 37, 29}, 1), w = random_tensor({12}, 2), bias = random_tensor({12}, 3);
  expect_same_bits_on_any_threads({x, w, bias}, [&] { return group_norm(x, 4, w, bias, 1e-5f); });
}

TEST(GroupNorm, RefusesGroupsThatDoNotDivideAndOtherWeights) {
  EXPECT_THROW(group_norm(Tensor::zeros({1, 4, 2}), 3, {}, {}, 1e-5f), CheckFailed);
  EXPECT_THROW(group_norm(Tensor::zeros({1, 4, 2}), 2, Tensor::zeros({3}), {}, 1e-5f), CheckFailed);
}

}  // namespace group_norm_test
}  // namespace fovea::tensor
