#include "fovea/tensor/ops/recurrent/gru.h"

#include <gtest/gtest.h>

#include <cmath>

#include "fovea/base/check.h"
#include "fovea/tensor/ops/math/binary.h"
#include "fovea/tensor/ops/product/batched.h"
#include "fovea/tensor/testing/golden_tensors.h"
#include "fovea/tensor/testing/gradient_check.h"
#include "fovea/tensor/testing/thread_check.h"
#include "fovea/tensor/testing/twin.h"

namespace fovea::tensor {
namespace gru_test {

using Inputs = const std::vector<Tensor>&;

TEST(Gru, AGateThatIsShutKeepsTheState) {
  const Tensor x = Tensor::from({1, 3}, std::vector<float>{0, 100, 2}),
               h = Tensor::from({1, 1}, std::vector<float>{0.25f});
  EXPECT_EQ(gru_step(x, Tensor::zeros({1, 3}), h).data()[0], 0.25f);
}

TEST(Gru, IsItsEquationAtOddSizes) {
  const auto sigmoid = [](double x) { return 1 / (1 + std::exp(-x)); };
  for (const int64_t d : {1, 7, 35}) {
    const Tensor x = random_tensor({3, 3 * d}, 1, 2.0), from_h = random_tensor({3, 3 * d}, 2),
                 h = random_tensor({3, d}, 3);
    expect_is(gru_step(x, from_h, h), h.shape(), [&](int64_t i) {
      const auto of = [&](const Tensor& t, int64_t k) { return double{t.data()[i / d * 3 * d + k * d + i % d]}; };
      const double z = sigmoid(of(x, 1) + of(from_h, 1));
      const double n = std::tanh(of(x, 2) + sigmoid(of(x, 0) + of(from_h, 0)) * of(from_h, 2));
      return (1 - z) * n + z * h.data()[i];
    });
  }
}

TEST(Gru, IsWhatPyTorchGives) {
  expect_op_golden("gru", [](Inputs in) {
    const Tensor x = add_spread(batched_product(in[0], in[2], {.b = true}), in[4]);
    return gru_step(x, add_spread(batched_product(in[1], in[3], {.b = true}), in[5]), in[1]);
  });
}

TEST(Gru, GradientsMeetFiniteDifferences) {
  const Tensor x = random_tensor({2, 9}, 1), from_h = random_tensor({2, 9}, 2), h = random_tensor({2, 3}, 3);
  expect_gradients({x, from_h, h}, [&] { return gru_step(x, from_h, h); });
  expect_gradients({h}, [&] { return gru_step(x, from_h, h); });
}

TEST(Gru, HasTheSameBitsOnAnyThreads) {
  const Tensor x = random_tensor({100, 300}, 1), from_h = random_tensor({100, 300}, 2),
               h = random_tensor({100, 100}, 3);
  expect_same_bits_on_any_threads({x, from_h, h}, [&] { return gru_step(x, from_h, h); });
}

TEST(Gru, RefusesGatesOfAnotherWidth) {
  EXPECT_THROW(gru_step(Tensor::zeros({2, 6}), Tensor::zeros({2, 6}), Tensor::zeros({2, 3})), CheckFailed);
}

}  // namespace gru_test
}  // namespace fovea::tensor
