#include "fovea/tensor/ops/recurrent/lstm.h"

#include <gtest/gtest.h>

#include <cmath>

#include "fovea/base/check.h"
#include "fovea/tensor/ops/math/add.h"
#include "fovea/tensor/ops/math/binary.h"
#include "fovea/tensor/ops/product/batched.h"
#include "fovea/tensor/ops/shape/copy.h"
#include "fovea/tensor/testing/golden_tensors.h"
#include "fovea/tensor/testing/gradient_check.h"
#include "fovea/tensor/testing/thread_check.h"
#include "fovea/tensor/testing/twin.h"

namespace fovea::tensor {
namespace lstm_test {

using Inputs = const std::vector<Tensor>&;

// [h, c] of a step from its products.
Tensor both(Inputs in) {
  const Tensor gates =
      add_spread(add(batched_product(in[0], in[3], {.b = true}), batched_product(in[1], in[4], {.b = true})), in[5]);
  const LstmState next = lstm_step(gates, in[2]);
  return concat({next.h, next.c}, 1);
}

TEST(Lstm, GatesThatAreShutKeepTheCell) {
  const Tensor gates = Tensor::from({1, 4}, std::vector<float>{-100, 100, 3, 100});  // i, f, g, o
  const Tensor c = Tensor::from({1, 1}, std::vector<float>{0.5f});
  const LstmState next = lstm_step(gates, c);
  EXPECT_EQ(next.c.data()[0], 0.5f);
  EXPECT_FLOAT_EQ(next.h.data()[0], std::tanh(0.5f));
}

TEST(Lstm, IsItsEquationAtOddSizes) {
  const auto sigmoid = [](double x) { return 1 / (1 + std::exp(-x)); };
  for (const int64_t d : {1, 7, 35}) {
    const Tensor gates = random_tensor({3, 4 * d}, 1, 2.0), c = random_tensor({3, d}, 2);
    const auto gate = [&](int64_t i, int64_t k) { return double{gates.data()[i / d * 4 * d + k * d + i % d]}; };
    const auto cell = [&](int64_t i) {
      return sigmoid(gate(i, 1)) * c.data()[i] + sigmoid(gate(i, 0)) * std::tanh(gate(i, 2));
    };
    const LstmState next = lstm_step(gates, c);
    expect_is(next.c, c.shape(), cell);
    expect_is(next.h, c.shape(), [&](int64_t i) { return sigmoid(gate(i, 3)) * std::tanh(cell(i)); });
  }
}

TEST(Lstm, IsWhatPyTorchGives) { expect_op_golden("lstm", both); }

TEST(Lstm, GradientsMeetFiniteDifferencesOverSteps) {
  const Tensor gates = random_tensor({2, 12}, 1), c = random_tensor({2, 3}, 2);
  expect_gradients({gates, c}, [&] {
    const LstmState first = lstm_step(gates, c), second = lstm_step(gates, first.c);
    return concat({first.h, second.h, second.c}, 1);
  });
  expect_gradients({gates, c}, [&] { return lstm_step(gates, c).h; });
  expect_gradients({c}, [&] { return lstm_step(gates, c).c; });
}

TEST(Lstm, HasTheSameBitsOnAnyThreads) {
  const Tensor gates = random_tensor({100, 400}, 1), c = random_tensor({100, 100}, 2);
  expect_same_bits_on_any_threads({gates, c}, [&] {
    const LstmState next = lstm_step(gates, c);
    return concat({next.h, next.c}, 1);
  });
}

TEST(Lstm, RefusesGatesOfAnotherWidth) {
  EXPECT_THROW(lstm_step(Tensor::zeros({2, 9}), Tensor::zeros({2, 3})), CheckFailed);
}

}  // namespace lstm_test
}  // namespace fovea::tensor
