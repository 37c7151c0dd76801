#include "fovea/tensor/ops/norm/rms_norm.h"

#include <gtest/gtest.h>

#include <cmath>

#include "fovea/base/check.h"
#include "fovea/tensor/testing/gradient_check.h"

namespace fovea::tensor {
namespace rms_norm_test {

TEST(RmsNorm, DividesByTheRootMeanSquareAndScales) {
  const Tensor x = Tensor::from({1, 2}, std::vector<float>{3, 4});  // mean square 12.5
  const Weight w = Weight::from("w", Tensor::from({2}, std::vector<float>{1, 2}));
  const Tensor y = rms_norm(x, w, 0.0f);
  EXPECT_NEAR(y.data()[0], 3 / std::sqrt(12.5), 1e-6);
  EXPECT_NEAR(y.data()[1], 8 / std::sqrt(12.5), 1e-6);
}

TEST(RmsNorm, ARowOfZerosStaysZero) {
  const Weight w = Weight::from("w", Tensor::from({2}, std::vector<float>{1, 2}));
  EXPECT_EQ(rms_norm(Tensor::zeros({1, 2}), w, 1e-6f).data()[1], 0.0f);
}

TEST(RmsNorm, ItsPartsGiveItsBits) {
  const Tensor x = random_tensor({5, 77}, 1);
  const Weight w = Weight::from("w", random_tensor({77}, 2));
  const Tensor whole = rms_norm(x, w, 1e-5f);
  const Tensor parts = scale_columns(rms_normalize(x, rms_scale(x, 1e-5f)), w);
  for (int64_t i = 0; i < x.elements(); ++i) ASSERT_EQ(whole.data()[i], parts.data()[i]) << i;
}

TEST(RmsNorm, RefusesAWeightOfAnotherLength) {
  const Weight w = Weight::from("blk.0.attn_norm.weight", Tensor::zeros({3}));
  EXPECT_THROW(rms_norm(Tensor::zeros({1, 2}), w, 1e-6f), CheckFailed);
}

TEST(RmsNorm, GradientMeetsFiniteDifferences) {
  const Tensor x = random_tensor({3, 9}, 3), w = random_tensor({9}, 4);
  expect_gradients({x, w}, [&] { return rms_norm(x, Weight::from("w", w), 1e-5f); });
  expect_gradients({w}, [&] { return rms_norm(x, Weight::from("w", w), 1e-5f); });
}

TEST(RmsNorm, GradientsOfThePartsMeetFiniteDifferences) {
  const Tensor x = random_tensor({3, 9}, 5), w = random_tensor({9}, 6);
  expect_gradients({x}, [&] { return rms_scale(x, 1e-5f); });
  expect_gradients({x}, [&] { return rms_normalize(x, 1e-5f); });
  Tensor scale = Tensor::from({3, 1}, std::vector<float>{1.5f, 2.0f, 1.0f});
  expect_gradients({x, scale}, [&] { return rms_normalize(x, scale); });
  expect_gradients({x, w}, [&] { return scale_columns(x, Weight::from("w", w)); });
}

}  // namespace rms_norm_test
}  // namespace fovea::tensor
