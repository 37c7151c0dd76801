#include "fovea/tensor/ops/image/pool.h"

#include <gtest/gtest.h>

#include "fovea/base/check.h"
#include "fovea/tensor/testing/golden_tensors.h"
#include "fovea/tensor/testing/gradient_check.h"
#include "fovea/tensor/testing/thread_check.h"

namespace fovea::tensor {
namespace pool_test {

using Inputs = const std::vector<Tensor>&;

TEST(Pool, TakesTheLargestAndTheMean) {
  const Tensor x = Tensor::from({1, 1, 2, 4}, std::vector<float>{1, 2, -3, -4, 5, 0, -1, -2});
  const Tensor most = max_pool(x, {.size = 2, .stride = 2}), mean = mean_pool(x, {.size = 2, .stride = 2});
  ASSERT_EQ(most.shape(), Shape({1, 1, 1, 2}));
  EXPECT_EQ(most.data()[0], 5.0f);
  EXPECT_EQ(most.data()[1], -1.0f);
  EXPECT_EQ(mean.data()[0], 2.0f);
  EXPECT_EQ(mean.data()[1], -2.5f);
}

TEST(Pool, OutsideIsNeverTheLargestAndCountsInAMeanWhereAsked) {
  const Tensor x = Tensor::from({1, 1, 1, 1}, std::vector<float>{-8});
  const Window window{.size = 3, .pad = 1};
  EXPECT_EQ(max_pool(x, window).data()[0], -8.0f);
  EXPECT_FLOAT_EQ(mean_pool(x, window).data()[0], -8.0f / 9);
  EXPECT_EQ(mean_pool(x, window, Outside::kLeftOut).data()[0], -8.0f);
}

TEST(Pool, GradientsMeetFiniteDifferences) {
  const Window window{.size = {2, 3}, .stride = {1, 2}, .pad = 1};
  Tensor x = random_tensor({2, 2, 4, 5}, 1, 0.01);
  for (int64_t i = 0; i < x.elements(); ++i) x.data()[i] += static_cast<float>(i * 7 % 40);  // far from ties
  expect_gradients({x}, [&] { return max_pool(x, window); });
  expect_gradients({x}, [&] { return mean_pool(x, window); });
  expect_gradients({x}, [&] { return mean_pool(x, window, Outside::kLeftOut); });
}

TEST(Pool, IsWhatPyTorchGives) {
  const Window window{.size = 3, .stride = 2, .pad = 1};
  expect_op_golden("max_pool", [&](Inputs in) { return max_pool(in[0], window); });
  expect_op_golden("mean_pool", [&](Inputs in) { return mean_pool(in[0], window); });
  expect_op_golden("mean_pool_inside", [&](Inputs in) { return mean_pool(in[0], window, Outside::kLeftOut); });
}

TEST(Pool, HasTheSameBitsOnAnyThreads) {
  const Tensor x = random_tensor({4, 8, 35, 37}, 1);
  expect_same_bits_on_any_threads({x}, [&] { return max_pool(x, {.size = 3, .stride = 2}); });
  expect_same_bits_on_any_threads({x}, [&] { return mean_pool(x, {.size = 3, .stride = 2}); });
}

TEST(Pool, RefusesAPadThatHidesAWindow) {
  EXPECT_THROW(max_pool(Tensor::zeros({1, 1, 4, 4}), {.size = 2, .pad = 2}), CheckFailed);
  EXPECT_THROW(mean_pool(Tensor::zeros({4, 4}), {.size = 2}), CheckFailed);
}

}  // namespace pool_test
}  // namespace fovea::tensor
