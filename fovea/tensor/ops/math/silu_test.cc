#include "fovea/tensor/ops/math/silu.h"

#include <gtest/gtest.h>

#include <cmath>

#include "fovea/base/check.h"
#include "fovea/tensor/testing/gradient_check.h"

namespace fovea::tensor {
namespace silu_test {

TEST(Silu, IsXTimesItsSigmoid) {
  const Tensor x = random_tensor({37}, 1, 4.0), y = silu(x);
  for (int64_t i = 0; i < x.elements(); ++i) {
    const double v = x.data()[i];
    EXPECT_NEAR(y.data()[i], v / (1 + std::exp(-v)), 1e-6 * (1 + std::abs(v)));
  }
}

TEST(Silu, FarFromZeroItIsZeroOrX) {
  const Tensor y = silu(Tensor::from({2}, std::vector<float>{-200, 200}));
  EXPECT_NEAR(y.data()[0], 0.0f, 1e-30f);
  EXPECT_EQ(y.data()[1], 200.0f);
}

TEST(Silu, GradientMeetsFiniteDifferences) {
  const Tensor x = random_tensor({3, 5}, 2, 2.0);
  expect_gradients({x}, [&] { return silu(x); });
}

TEST(Swiglu, IsSiluOfTheGateTimesUp) {
  const Tensor gate = random_tensor({29}, 3, 2.0), up = random_tensor({29}, 4);
  const Tensor y = swiglu(gate, up), s = silu(gate);
  for (int64_t i = 0; i < y.elements(); ++i) EXPECT_NEAR(y.data()[i], s.data()[i] * up.data()[i], 1e-6);
}

TEST(Swiglu, GradientMeetsFiniteDifferences) {
  const Tensor gate = random_tensor({3, 5}, 5), up = random_tensor({3, 5}, 6);
  expect_gradients({gate, up}, [&] { return swiglu(gate, up); });
  EXPECT_THROW(swiglu(gate, Tensor::zeros({5, 3})), CheckFailed);
}

TEST(Swiglu, PassesAGradientToOneInputOnly) {
  const Tensor gate = random_tensor({7}, 7), up = random_tensor({7}, 8);
  expect_gradients({up}, [&] { return swiglu(gate, up); });
  expect_gradients({gate}, [&] { return swiglu(gate, up); });
}

}  // namespace silu_test
}  // namespace fovea::tensor
