#include "fovea/tensor/ops/cross_entropy.h"

#include <gtest/gtest.h>

#include <cmath>

#include "fovea/base/check.h"
#include "fovea/tensor/ops/gradient_check.h"

namespace fovea::tensor {
namespace {

TEST(CrossEntropy, OfUniformLogitsIsLogOfTheVocabulary) {
  EXPECT_NEAR(cross_entropy(Tensor::zeros({2, 5}), std::vector<int32_t>{0, 4}).data()[0], std::log(5.0), 1e-6);
}

TEST(CrossEntropy, SkipsRowsWithoutATarget) {
  const Tensor logits = Tensor::from({2, 2}, std::vector<float>{0, std::log(3.0f), 50, -50});
  EXPECT_NEAR(cross_entropy(logits, std::vector<int32_t>{1, -1}).data()[0], std::log(4.0 / 3.0), 1e-6);
  EXPECT_EQ(cross_entropy(logits, std::vector<int32_t>{-1, -1}).data()[0], 0.0f);
}

TEST(CrossEntropy, HugeLogitsStayFinite) {
  const Tensor logits = Tensor::from({1, 2}, std::vector<float>{3e4f, -3e4f});
  EXPECT_EQ(cross_entropy(logits, std::vector<int32_t>{1}).data()[0], 6e4f);
}

TEST(CrossEntropy, RefusesATargetOutsideTheVocabulary) {
  EXPECT_THROW(cross_entropy(Tensor::zeros({1, 2}), std::vector<int32_t>{2}), CheckFailed);
  EXPECT_THROW(cross_entropy(Tensor::zeros({1, 2}), std::vector<int32_t>{0, 1}), CheckFailed);
}

TEST(CrossEntropy, GradientMeetsFiniteDifferences) {
  const Tensor logits = random_tensor({4, 7}, 1);
  expect_gradients({logits}, [&] { return cross_entropy(logits, std::vector<int32_t>{0, 6, -1, 3}); });
}

}  // namespace
}  // namespace fovea::tensor
