#include "fovea/tensor/ops/recurrent/conv1d.h"

#include <gtest/gtest.h>

#include "fovea/base/check.h"
#include "fovea/tensor/testing/golden_tensors.h"
#include "fovea/tensor/testing/gradient_check.h"
#include "fovea/tensor/testing/thread_check.h"
#include "fovea/tensor/testing/twin.h"

namespace fovea::tensor {
namespace conv1d_test {

using Inputs = const std::vector<Tensor>&;

TEST(Conv1d, ACausalOneSeesWhatIsBehind) {
  const Tensor x = Tensor::from({1, 3, 1}, std::vector<float>{1, 2, 3}),
               w = Tensor::from({1, 2}, std::vector<float>{10, 1});
  const Tensor causal = causal_conv1d(x, w, {}), ahead = depthwise_conv1d(x, w, {}, 0);
  EXPECT_EQ(std::vector<float>(causal.values().begin(), causal.values().end()), (std::vector<float>{1, 12, 23}));
  EXPECT_EQ(std::vector<float>(ahead.values().begin(), ahead.values().end()), (std::vector<float>{12, 23, 30}));
}

TEST(Conv1d, IsItsEquationAtOddSizes) {
  for (const int64_t size : {1, 2, 5}) {
    for (int64_t before = 0; before < size; ++before) {
      const Tensor x = random_tensor({2, 7, 9}, 1), w = random_tensor({9, size}, 2), bias = random_tensor({9}, 3);
      expect_is(depthwise_conv1d(x, w, bias, before), x.shape(), [&](int64_t i) {
        double sum = bias.data()[i % 9];
        for (int64_t k = 0; k < size; ++k) {
          const int64_t t = i / 9 % 7 + k - before;
          if (t >= 0 && t < 7) sum += double{w.data()[i % 9 * size + k]} * x.data()[(i / 63 * 7 + t) * 9 + i % 9];
        }
        return sum;
      });
    }
  }
}

TEST(Conv1d, GradientsMeetFiniteDifferences) {
  const Tensor x = random_tensor({2, 5, 3}, 1), w = random_tensor({3, 4}, 2), bias = random_tensor({3}, 3);
  for (const int64_t before : {0, 1, 3}) {
    expect_gradients({x, w, bias}, [&] { return depthwise_conv1d(x, w, bias, before); });
    expect_gradients({w}, [&] { return depthwise_conv1d(x, w, {}, before); });
  }
}

TEST(Conv1d, IsWhatPyTorchGives) {
  expect_op_golden("conv1d", [](Inputs in) { return causal_conv1d(in[0], in[1], in[2]); });
}

TEST(Conv1d, HasTheSameBitsOnAnyThreads) {
  const Tensor x = random_tensor({3, 70, 165}, 1), w = random_tensor({165, 4}, 2), bias = random_tensor({165}, 3);
  expect_same_bits_on_any_threads({x, w, bias}, [&] { return causal_conv1d(x, w, bias); });
}

TEST(Conv1d, RefusesOtherChannelsAndWindowsElsewhere) {
  EXPECT_THROW(causal_conv1d(Tensor::zeros({1, 4, 3}), Tensor::zeros({2, 4}), {}), CheckFailed);
  EXPECT_THROW(depthwise_conv1d(Tensor::zeros({1, 4, 3}), Tensor::zeros({3, 4}), {}, 4), CheckFailed);
}

}  // namespace conv1d_test
}  // namespace fovea::tensor
