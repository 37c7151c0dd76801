#include "fovea/tensor/ops/loss/distances.h"

#include <gtest/gtest.h>

#include <cmath>

#include "fovea/base/check.h"
#include "fovea/tensor/ops/reduce/softmax.h"
#include "fovea/tensor/testing/gradient_check.h"

namespace fovea::tensor {
namespace distances_test {

TEST(Distances, HaveTheValuesOfTheirFormulas) {
  const Tensor x = Tensor::from({3}, std::vector<float>{1, -2, 0.5f}),
               y = Tensor::from({3}, std::vector<float>{0, 1, 1});
  EXPECT_FLOAT_EQ(squared_error(x, y).data()[0], 1 + 9 + 0.25f);
  EXPECT_FLOAT_EQ(absolute_error(x, y).data()[0], 1 + 3 + 0.5f);
  double bce = 0;
  for (int i = 0; i < 3; ++i) {
    const double s = 1 / (1 + std::exp(-double{x.data()[i]}));
    bce -= y.data()[i] * std::log(s) + (1 - y.data()[i]) * std::log(1 - s);
  }
  EXPECT_NEAR(binary_cross_entropy(x, y).data()[0], bce, 1e-6);
  const Tensor p = Tensor::from({2}, std::vector<float>{std::log(0.25f), std::log(0.75f)});
  const Tensor q = Tensor::from({2}, std::vector<float>{std::log(0.5f), std::log(0.5f)});
  EXPECT_NEAR(kl_divergence(p, q).data()[0], 0.25 * std::log(0.5) + 0.75 * std::log(1.5), 1e-6);
  EXPECT_EQ(kl_divergence(p, p).data()[0], 0.0f);
}

TEST(Distances, HugeLogitsStayFinite) {
  const Tensor x = Tensor::from({1}, std::vector<float>{-1e4f}), one = Tensor::from({1}, std::vector<float>{1});
  EXPECT_EQ(binary_cross_entropy(x, one).data()[0], 1e4f);
}

TEST(Distances, GradientsMeetFiniteDifferences) {
  const Tensor x = random_tensor({2, 3}, 1), y = random_tensor({2, 3}, 2);
  const Tensor target = Tensor::from({2, 3}, std::vector<float>{0, 1, 0.5f, 1, 0, 0.2f});
  expect_gradients({x, y}, [&] { return squared_error(x, y); });
  expect_gradients({x, y}, [&] { return absolute_error(x, y); });
  expect_gradients({x}, [&] { return binary_cross_entropy(x, target); });
  expect_gradients({x, y}, [&] { return kl_divergence(log_softmax(x), log_softmax(y)); });
}

TEST(Distances, RefuseShapesThatDiffer) {
  EXPECT_THROW(squared_error(Tensor::zeros({2}), Tensor::zeros({1})), CheckFailed);
}

}  // namespace distances_test
}  // namespace fovea::tensor
