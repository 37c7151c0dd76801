#include "fovea/tensor/ops/image/grid_sample.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "fovea/base/check.h"
#include "fovea/tensor/testing/golden_tensors.h"
#include "fovea/tensor/testing/gradient_check.h"
#include "fovea/tensor/testing/thread_check.h"
#include "fovea/tensor/testing/twin.h"

namespace fovea::tensor {
namespace grid_sample_test {

using Inputs = const std::vector<Tensor>&;

TEST(GridSample, ReadsBetweenPixelsAndZeroOutside) {
  const Tensor x = Tensor::from({1, 1, 1, 2}, std::vector<float>{2, 6});
  const Tensor grid = Tensor::from({1, 1, 4, 2}, std::vector<float>{-0.5f, 0, 0, 0, 1, 0, 40, 0});
  const Tensor y = grid_sample(x, grid);
  ASSERT_EQ(y.shape(), Shape({1, 1, 1, 4}));
  EXPECT_EQ(y.data()[0], 2.0f);
  EXPECT_EQ(y.data()[1], 4.0f);
  EXPECT_EQ(y.data()[2], 3.0f);  // the outer edge: half of the pixel, half of what is outside
  EXPECT_EQ(y.data()[3], 0.0f);
}

TEST(GridSample, APointThatIsNoNumberIsOutside) {
  const Tensor x = Tensor::from({1, 1, 1, 1}, std::vector<float>{5});
  const float infinite = std::numeric_limits<float>::infinity();
  const Tensor grid = Tensor::from({1, 1, 3, 2}, std::vector<float>{NAN, 0, infinite, 0, 0, -infinite});
  const Tensor y = grid_sample(x, grid);
  for (const float v : y.values()) EXPECT_EQ(v, 0.0f);
}

// The sum of all pixels, each with a tent of width 1 along both sides.
TEST(GridSample, IsItsEquationAtOddSizes) {
  const Tensor x = random_tensor({2, 3, 5, 7}, 1), grid = random_tensor({2, 4, 3, 2}, 2, 0.7);
  for (const bool aligned : {false, true}) {
    expect_is(
        grid_sample(x, grid, aligned), {2, 3, 4, 3},
        [&](int64_t i) {
          const float* at = grid.data() + (i / 36 * 12 + i % 12) * 2;
          const auto place = [aligned](double g, double n) {
            return aligned ? (g + 1) / 2 * (n - 1) : ((g + 1) * n - 1) / 2;
          };
          const double across = place(at[0], 7), down = place(at[1], 5);
          double sum = 0;
          for (int64_t p = 0; p < 35; ++p) {
            const double tent_x = std::max(0.0, 1 - std::abs(across - static_cast<double>(p % 7)));
            const double tent_y = std::max(0.0, 1 - std::abs(down - static_cast<double>(p / 7)));
            sum += tent_x * tent_y * at4(x, i / 36, i / 12 % 3, p / 7, p % 7);
          }
          return sum;
        },
        1e-4);  // the place of a pixel rounds at 7 / 2^24
  }
}

// Points within the cells of pixels, so that no difference crosses an edge between them.
TEST(GridSample, GradientsMeetFiniteDifferences) {
  const Tensor x = random_tensor({2, 3, 4, 4}, 1);
  Tensor grid = Tensor::empty({2, 2, 3, 2});
  for (int64_t i = 0; i < grid.elements(); ++i)
    grid.data()[i] = (static_cast<float>(i * 5 % 3) + 1.0f) / 2 - 1 + 0.02f * static_cast<float>(i % 3);
  for (const bool aligned : {false, true}) expect_gradients({x, grid}, [&] { return grid_sample(x, grid, aligned); });
}

TEST(GridSample, IsWhatPyTorchGives) {
  expect_op_golden("grid_sample", [](Inputs in) { return grid_sample(in[0], in[1]); });
  expect_op_golden("grid_sample_aligned", [](Inputs in) { return grid_sample(in[0], in[1], true); });
}

TEST(GridSample, HasTheSameBitsOnAnyThreads) {
  const Tensor x = random_tensor({3, 5, 40, 41}, 1), grid = random_tensor({3, 50, 30, 2}, 2, 0.6);
  expect_same_bits_on_any_threads({x, grid}, [&] { return grid_sample(x, grid); });
}

TEST(GridSample, RefusesAGridOfAnotherBatch) {
  EXPECT_THROW(grid_sample(Tensor::zeros({2, 1, 2, 2}), Tensor::zeros({1, 2, 2, 2})), CheckFailed);
  EXPECT_THROW(grid_sample(Tensor::zeros({1, 1, 2, 2}), Tensor::zeros({1, 2, 2, 3})), CheckFailed);
}

}  // namespace grid_sample_test
}  // namespace fovea::tensor
