#include "fovea/tensor/ops/loss/dice.h"

#include <gtest/gtest.h>

#include "fovea/base/check.h"
#include "fovea/tensor/ops/math/unary.h"
#include "fovea/tensor/testing/golden_tensors.h"
#include "fovea/tensor/testing/gradient_check.h"
#include "fovea/tensor/testing/twin.h"

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

TEST(Dice, IsItsEquationAtOddSizes) {
  for (const int64_t n : {1, 7, 33}) {
    const Tensor p = sigmoid(random_tensor({3, n}, 1)), t = sigmoid(random_tensor({3, n}, 2));
    double loss = 0;
    for (int64_t r = 0; r < 3; ++r) {
      double both = 0, all = 0;
      for (int64_t i = r * n; i < (r + 1) * n; ++i) {
        both += double{p.data()[i]} * t.data()[i], all += double{p.data()[i]} + t.data()[i];
      }
      loss += 1 - (2 * both + 0.5) / (all + 0.5);
    }
    expect_is(dice_loss(p, t, 0.5f), {1}, [&](int64_t) { return loss; });
  }
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
