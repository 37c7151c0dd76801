#include "fovea/tensor/ops/loss/dice.h"

#include <gtest/gtest.h>

#include "fovea/base/check.h"
#include "fovea/tensor/ops/math/unary.h"
#include "fovea/tensor/testing/golden_tensors.h"
#include "fovea/tensor/testing/gradient_check.h"

namespace fovea::tensor {
namespace dice_test {

using Inputs = const std::vector<Tensor>&;

TEST(Dice, IsZeroForTheMaskItselfAndNearOneForAnother) {
  const Tensor mask = Tensor::from({1, 4}, std::vector<float>{1, 1, 0, 0}),
               other = Tensor::from({1, 4}, std::vector<float>{0, 0, 1, 1});
  EXPECT_EQ(dice_loss(mask, mask).data()[0], 0.0f);
  EXPECT_EQ(dice_loss(other, mask, 0).data()[0], 1.0f);
  EXPECT_FLOAT_EQ(dice_loss(other, mask).data()[0], 1 - 1.0f / 5);
}

TEST(Dice, GradientMeetsFiniteDifferences) {
  const Tensor p = random_tensor({2, 5}, 1),
               mask = Tensor::from({2, 5}, std::vector<float>{1, 0, 1, 0, 0, 1, 1, 1, 0, 1});
  expect_gradients({p}, [&] { return dice_loss(sigmoid(p), mask); });
}

TEST(Dice, IsWhatPyTorchGives) {
  expect_op_golden("dice", [](Inputs in) { return dice_loss(in[0], in[1]); });
}

TEST(Dice, RefusesAMaskOfAnotherShape) {
  EXPECT_THROW(dice_loss(Tensor::zeros({1, 3}), Tensor::zeros({1, 2})), CheckFailed);
}

}  // namespace dice_test
}  // namespace fovea::tensor
