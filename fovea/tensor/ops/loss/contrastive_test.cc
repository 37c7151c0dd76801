#include "fovea/tensor/ops/loss/contrastive.h"

#include <gtest/gtest.h>

#include <cmath>

#include "fovea/base/check.h"
#include "fovea/tensor/testing/golden_tensors.h"
#include "fovea/tensor/testing/gradient_check.h"

namespace fovea::tensor {
namespace contrastive_test {

using Inputs = const std::vector<Tensor>&;

Tensor one(float x) { return Tensor::from({1}, std::vector<float>{x}); }

TEST(Contrastive, OfRowsThatAreAllAlikeIsLogOfTheirNumber) {
  Tensor x = Tensor::empty({4, 3});
  std::fill_n(x.data(), x.elements(), 2.0f);
  EXPECT_NEAR(contrastive_loss(x, x, one(5)).data()[0], std::log(4.0), 1e-6);
  EXPECT_NEAR(info_nce(x, x, one(5)).data()[0], 4 * std::log(4.0), 1e-5);
}

TEST(Contrastive, OfPairsAtRightAnglesIsNearZero) {
  const Tensor x = Tensor::from({2, 2}, std::vector<float>{3, 0, 0, 0.1f});
  EXPECT_NEAR(contrastive_loss(x, x, one(20)).data()[0], 0, 1e-8);  // e^-20 is below the rounding of 1
}

TEST(Contrastive, GradientsMeetFiniteDifferences) {
  const Tensor a = random_tensor({3, 4}, 1), b = random_tensor({3, 4}, 2), scale = one(2);
  expect_gradients({a, b, scale}, [&] { return contrastive_loss(a, b, scale); });
  expect_gradients({a, scale}, [&] { return info_nce(a, b, scale); });
}

TEST(Contrastive, IsWhatPyTorchGives) {
  expect_op_golden("contrastive", [](Inputs in) { return contrastive_loss(in[0], in[1], in[2]); });
}

TEST(Contrastive, RefusesPairsThatAreNone) {
  EXPECT_THROW(contrastive_loss(Tensor::zeros({2, 3}), Tensor::zeros({3, 3}), one(1)), CheckFailed);
  EXPECT_THROW(info_nce(Tensor::zeros({2, 3}), Tensor::zeros({2, 3}), Tensor::zeros({2})), CheckFailed);
}

}  // namespace contrastive_test
}  // namespace fovea::tensor
