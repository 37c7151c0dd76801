#include "fovea/tensor/ops/recurrent/gru.h"

#include <gtest/gtest.h>

#include "fovea/base/check.h"
#include "fovea/tensor/ops/math/binary.h"
#include "fovea/tensor/ops/product/batched.h"
#include "fovea/tensor/testing/golden_tensors.h"
#include "fovea/tensor/testing/gradient_check.h"
#include "fovea/tensor/testing/thread_check.h"

namespace fovea::tensor {
namespace gru_test {

using Inputs = const std::vector<Tensor>&;

TEST(Gru, AGateThatIsShutKeepsTheState) {
  const Tensor x = Tensor::from({1, 3}, std::vector<float>{0, 100, 2}),
               h = Tensor::from({1, 1}, std::vector<float>{0.25f});
  EXPECT_EQ(gru_step(x, Tensor::zeros({1, 3}), h).data()[0], 0.25f);
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
