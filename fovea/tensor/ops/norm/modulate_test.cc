#include "fovea/tensor/ops/norm/modulate.h"

#include <gtest/gtest.h>

#include "fovea/base/check.h"
#include "fovea/tensor/testing/gradient_check.h"
#include "fovea/tensor/testing/thread_check.h"
#include "fovea/tensor/testing/twin.h"

namespace fovea::tensor {
namespace modulate_test {

TEST(Modulate, ScalesAndShiftsTheRowsOfEachSample) {
  const Tensor x = Tensor::from({4, 1}, std::vector<float>{1, 2, 3, 4});
  const Tensor scale = Tensor::from({2, 1}, std::vector<float>{0, 1}),
               shift = Tensor::from({2, 1}, std::vector<float>{0, 5});
  const Tensor y = modulate(x, scale, shift);
  const std::vector<float> expected = {1, 2, 11, 13};
  EXPECT_EQ(std::vector<float>(y.values().begin(), y.values().end()), expected);
}

TEST(Modulate, IsItsEquationAtOddSizes) {
  for (const int64_t d : {1, 5, 33}) {
    const Tensor x = random_tensor({9, d}, 1), scale = random_tensor({3, d}, 2), shift = random_tensor({3, d}, 3);
    expect_is(modulate(x, scale, shift), x.shape(), [&](int64_t i) {
      const int64_t at = i / (3 * d) * d + i % d;
      return x.data()[i] * (1.0 + scale.data()[at]) + shift.data()[at];
    });
  }
}

TEST(Modulate, GradientsMeetFiniteDifferences) {
  const Tensor x = random_tensor({6, 5}, 1), scale = random_tensor({2, 5}, 2), shift = random_tensor({2, 5}, 3);
  expect_gradients({x, scale, shift}, [&] { return modulate(x, scale, shift); });
  expect_gradients({shift}, [&] { return modulate(x, scale, shift); });
}

TEST(Modulate, HasTheSameBitsOnAnyThreads) {
  const Tensor x = random_tensor({300, 130}, 1), scale = random_tensor({6, 130}, 2), shift = random_tensor({6, 130}, 3);
  expect_same_bits_on_any_threads({x, scale, shift}, [&] { return modulate(x, scale, shift); });
}

TEST(Modulate, RefusesRowsThatSamplesDoNotShareOut) {
  EXPECT_THROW(modulate(Tensor::zeros({5, 2}), Tensor::zeros({2, 2}), Tensor::zeros({2, 2})), CheckFailed);
  EXPECT_THROW(modulate(Tensor::zeros({4, 2}), Tensor::zeros({2, 3}), Tensor::zeros({2, 3})), CheckFailed);
}

}  // namespace modulate_test
}  // namespace fovea::tensor
