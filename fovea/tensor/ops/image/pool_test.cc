#include "fovea/tensor/ops/image/pool.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "fovea/base/check.h"
#include "fovea/tensor/testing/golden_tensors.h"
#include "fovea/tensor/testing/gradient_check.h"
#include "fovea/tensor/testing/thread_check.h"
#include "fovea/tensor/testing/twin.h"

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

TEST(Pool, IsItsEquationAtOddSizes) {
  for (const Window& w : {Window{.size = {1, 3}}, Window{.size = {3, 2}, .stride = {2, 1}, .pad = {1, 0}},
                          Window{.size = 3, .stride = {1, 2}, .pad = 1, .dilation = {1, 2}}}) {
    const Tensor x = random_tensor({2, 3, 7, 9}, 1);
    const int64_t h = (7 + 2 * w.pad.h - w.dilation.h * (w.size.h - 1) - 1) / w.stride.h + 1;
    const int64_t wide = (9 + 2 * w.pad.w - w.dilation.w * (w.size.w - 1) - 1) / w.stride.w + 1;
    double most = 0, sum = 0;
    int64_t inside = 0;
    const auto look = [&](int64_t i) {  // at the window of element i
      most = -1e30, sum = 0, inside = 0;
      for (int64_t k = 0; k < w.size.h * w.size.w; ++k) {
        const int64_t row = i / wide % h * w.stride.h + k / w.size.w * w.dilation.h - w.pad.h;
        const int64_t column = i % wide * w.stride.w + k % w.size.w * w.dilation.w - w.pad.w;
        if (row < 0 || row >= 7 || column < 0 || column >= 9) continue;
        const double v = at4(x, i / (wide * h * 3), i / (wide * h) % 3, row, column);
        most = std::max(most, v), sum += v, ++inside;
      }
    };
    const auto area = static_cast<double>(w.size.h * w.size.w);
    expect_is(max_pool(x, w), {2, 3, h, wide}, [&](int64_t i) { return look(i), most; });
    expect_is(mean_pool(x, w), {2, 3, h, wide}, [&](int64_t i) { return look(i), sum / area; });
    expect_is(mean_pool(x, w, Outside::kLeftOut), {2, 3, h, wide},
              [&](int64_t i) { return look(i), sum / static_cast<double>(inside); });
  }
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
