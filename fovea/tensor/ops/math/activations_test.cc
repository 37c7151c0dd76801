#include "fovea/tensor/ops/math/activations.h"

#include <gtest/gtest.h>

#include "fovea/base/check.h"
#include "fovea/tensor/exec.h"
#include "fovea/tensor/ops/math/mul.h"
#include "fovea/tensor/ops/math/unary.h"
#include "fovea/tensor/testing/gradient_check.h"

namespace fovea::tensor {
namespace activations_test {

TEST(Activations, AGateMultipliesWhatItsActivationGives) {
  const Tensor gate = random_tensor({3, 37}, 1, 2.0), up = random_tensor({3, 37}, 2);
  for (const Activation act : {Activation::kSilu, Activation::kGelu, Activation::kGeluTanh, Activation::kRelu}) {
    const Tensor y = gated(gate, up, act), parts = mul(activate(gate, act), up);
    for (int64_t i = 0; i < y.elements(); ++i) ASSERT_NEAR(y.data()[i], parts.data()[i], 1e-6) << i;
  }
  const Tensor smooth = activate(gate, Activation::kGeluTanh), plain = activate(gate, Activation::kGelu);
  EXPECT_NE(smooth.data()[0], plain.data()[0]);
  EXPECT_THROW(gated(gate, Tensor::zeros({3, 36}), Activation::kGelu), CheckFailed);
}

TEST(Activations, AClampedGateIsThatOfItsEquation) {
  const Tensor gate = Tensor::from({4}, std::vector<float>{2, 9, -3, 1}),
               up = Tensor::from({4}, std::vector<float>{3, 8, -9, 0});
  const Tensor y = gated(gate, up, Activation::kClampedSwiglu);
  const auto want = [](double g, double u) { return g / (1 + std::exp(-1.702 * g)) * (u + 1); };
  EXPECT_NEAR(y.data()[0], want(2, 3), 1e-5);
  EXPECT_NEAR(y.data()[1], want(7, 7), 1e-5);
  EXPECT_NEAR(y.data()[2], want(-3, -7), 1e-5);
  EXPECT_NEAR(y.data()[3], want(1, 0), 1e-6);
}

TEST(Activations, GradientsMeetFiniteDifferences) {
  const Tensor gate = random_tensor({2, 5}, 3), up = random_tensor({2, 5}, 4);
  for (const Activation act :
       {Activation::kSilu, Activation::kGelu, Activation::kGeluTanh, Activation::kClampedSwiglu}) {
    expect_gradients({gate, up}, [&] { return gated(gate, up, act); });
    expect_gradients({gate}, [&] { return activate(gate, act); });
  }
}

}  // namespace activations_test
}  // namespace fovea::tensor
