#include "fovea/tensor/ops/loss/cross_entropy.h"

#include <gtest/gtest.h>

#include <cmath>

#include "fovea/base/check.h"
#include "fovea/tensor/testing/gradient_check.h"

namespace fovea::tensor {
namespace cross_entropy_test {

TEST(CrossEntropy, OfUniformLogitsIsLogOfTheVocabulary) {
  EXPECT_NEAR(cross_entropy(Tensor::zeros({2, 5}), std::vector<int32_t>{0, 4}).mean().data()[0], std::log(5.0), 1e-6);
}

TEST(CrossEntropy, SkipsRowsWithoutATarget) {
  const Tensor logits = Tensor::from({2, 2}, std::vector<float>{0, std::log(3.0f), 50, -50});
  EXPECT_NEAR(cross_entropy(logits, std::vector<int32_t>{1, -1}).mean().data()[0], std::log(4.0 / 3.0), 1e-6);
  EXPECT_EQ(cross_entropy(logits, std::vector<int32_t>{-1, kNoTarget}).mean().data()[0], 0.0f);
}

TEST(CrossEntropy, HugeLogitsStayFinite) {
  const Tensor logits = Tensor::from({1, 2}, std::vector<float>{3e4f, -3e4f});
  EXPECT_EQ(cross_entropy(logits, std::vector<int32_t>{1}).sum.data()[0], 6e4f);
}

TEST(CrossEntropy, RefusesATargetOutsideTheVocabulary) {
  EXPECT_THROW(cross_entropy(Tensor::zeros({1, 2}), std::vector<int32_t>{2}), CheckFailed);
  EXPECT_THROW(cross_entropy(Tensor::zeros({1, 2}), std::vector<int32_t>{0, 1}), CheckFailed);
}

TEST(CrossEntropy, RefusesOtherNegativeTargets) {
  EXPECT_THROW(cross_entropy(Tensor::zeros({1, 2}), std::vector<int32_t>{-2}), CheckFailed);
}

// Two batches with 3 targets and 1: their mean is that of all four rows, which the mean of their means is not.
TEST(CrossEntropy, BatchesOfDifferentCountsAddUp) {
  const Tensor logits = random_tensor({4, 5}, 1);
  const std::vector<int32_t> targets = {0, 4, 2, 1};
  const Tensor parts[] = {Tensor::from({3, 5}, logits.values().subspan(0, 15)),
                          Tensor::from({1, 5}, logits.values().subspan(15))};
  Tape tape;
  Exec exec{.tape = &tape};
  ExecScope scope(exec);
  for (const Tensor& t : {logits, parts[0], parts[1]}) tape.watch(t);
  const Tensor mean = cross_entropy(logits, targets).mean();
  tape.backward(mean);
  double sum = 0;
  const Tensor share = Tensor::from({1}, std::vector<float>{0.25f});
  for (const int i : {0, 1}) {
    const CrossEntropy loss = cross_entropy(parts[i], std::span(targets).subspan(i == 0 ? 0 : 3, i == 0 ? 3 : 1));
    EXPECT_EQ(loss.count, i == 0 ? 3 : 1);
    sum += loss.sum.data()[0];
    tape.backward(loss.sum, share);
  }
  EXPECT_NEAR(sum / 4, mean.data()[0], 1e-6);
  for (int64_t i = 0; i < 20; ++i) {
    const float part = i < 15 ? tape.grad(parts[0]).data()[i] : tape.grad(parts[1]).data()[i - 15];
    EXPECT_NEAR(part, tape.grad(logits).data()[i], 1e-7);
  }
}

// Far from the target's rivals the loss is e^-20, not the rounding of a logit of 1000.
TEST(CrossEntropy, ALossNearZeroKeepsItsDigits) {
  const Tensor logits = Tensor::from({1, 2}, std::vector<float>{1000, 990});
  EXPECT_NEAR(cross_entropy(logits, std::vector<int32_t>{0}).sum.data()[0], std::log1p(std::exp(-10.0)), 6e-8);
}

TEST(CrossEntropy, SmoothingGivesEveryWordAShare) {
  const Tensor logits = Tensor::from({1, 2}, std::vector<float>{0, std::log(3.0f)});
  const double nll[] = {-std::log(0.25), -std::log(0.75)};
  EXPECT_NEAR(cross_entropy(logits, std::vector<int32_t>{1}, 0.2f).sum.data()[0],
              0.8 * nll[1] + 0.1 * (nll[0] + nll[1]), 1e-6);
}

TEST(CrossEntropy, GradientMeetsFiniteDifferences) {
  const Tensor logits = random_tensor({4, 7}, 1);
  const std::vector<int32_t> targets = {0, 6, -1, 3};
  expect_gradients({logits}, [&] { return cross_entropy(logits, targets).sum; });
  expect_gradients({logits}, [&] { return cross_entropy(logits, targets).mean(); });
  expect_gradients({logits}, [&] { return cross_entropy(logits, targets, 0.3f).sum; });
}

}  // namespace cross_entropy_test
}  // namespace fovea::tensor
