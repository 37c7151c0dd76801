#include "fovea/tensor/ops/loss/contrastive.h"

#include <gtest/gtest.h>

#include <cmath>

#include "fovea/base/check.h"
#include "fovea/tensor/testing/golden_tensors.h"
#include "fovea/tensor/testing/gradient_check.h"
#include "fovea/tensor/testing/twin.h"

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

// The sum over rows of -log softmax(scale cos(a[i], b[.]))[i], in double.
double twin(const Tensor& a, const Tensor& b, double scale) {
  const int64_t n = a.dim(0), d = a.dim(1);
  const auto dot = [d](const Tensor& x, int64_t i, const Tensor& y, int64_t j) {
    double sum = 0;
    for (int64_t c = 0; c < d; ++c) sum += double{x.data()[i * d + c]} * y.data()[j * d + c];
    return sum;
  };
  double loss = 0;
  for (int64_t i = 0; i < n; ++i) {
    const auto score = [&](int64_t j) {
      return scale * dot(a, i, b, j) / std::sqrt(dot(a, i, a, i) * dot(b, j, b, j));
    };
    double sum = 0;
    for (int64_t j = 0; j < n; ++j) sum += std::exp(score(j));
    loss += std::log(sum) - score(i);
  }
  return loss;
}

TEST(Contrastive, IsItsEquationAtOddSizes) {
  for (const int64_t n : {1, 3, 17}) {
    for (const int64_t d : {1, 9, 33}) {
      const Tensor a = random_tensor({n, d}, 1), b = random_tensor({n, d}, 2);
      expect_is(info_nce(a, b, one(3)), {1}, [&](int64_t) { return twin(a, b, 3); });
      expect_is(contrastive_loss(a, b, one(3)), {1},
                [&](int64_t) { return (twin(a, b, 3) + twin(b, a, 3)) / static_cast<double>(2 * n); });
    }
  }
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
