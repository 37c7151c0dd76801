#include "fovea/tensor/ops/math/mul.h"

#include <gtest/gtest.h>

#include "fovea/base/check.h"
#include "fovea/tensor/testing/gradient_check.h"

namespace fovea::tensor {
namespace mul_test {

TEST(Mul, MultipliesElementByElement) {
  const Tensor y = mul(Tensor::from({2}, std::vector<float>{3, -2}), Tensor::from({2}, std::vector<float>{10, 20}));
  EXPECT_EQ(y.data()[0], 30.0f);
  EXPECT_EQ(y.data()[1], -40.0f);
}

TEST(Mul, RefusesOtherShapes) { EXPECT_THROW(mul(Tensor::zeros({2}), Tensor::zeros({3})), CheckFailed); }

TEST(Mul, GradientMeetsFiniteDifferences) {
  const Tensor a = random_tensor({3, 5}, 1), b = random_tensor({3, 5}, 2);
  expect_gradients({a, b}, [&] { return mul(a, b); });
  expect_gradients({a}, [&] { return mul(a, a); });
}

}  // namespace mul_test
}  // namespace fovea::tensor
