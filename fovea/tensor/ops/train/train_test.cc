#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "fovea/base/check.h"
#include "fovea/base/threads.h"
#include "fovea/tensor/ops/math/mul.h"
#include "fovea/tensor/ops/math/unary.h"
#include "fovea/tensor/ops/reduce/reduce.h"
#include "fovea/tensor/ops/train/choices.h"
#include "fovea/tensor/ops/train/dropout.h"
#include "fovea/tensor/ops/train/stop_gradient.h"
#include "fovea/tensor/testing/gradient_check.h"
#include "fovea/tensor/testing/twin.h"

namespace fovea::tensor {
namespace train_test {

using ::testing::ElementsAre;

std::vector<float> values(const Tensor& t) { return {t.values().begin(), t.values().end()}; }

TEST(Dropout, DropsItsShareAndKeepsTheMean) {
  Tensor x = Tensor::empty({100000});
  std::fill_n(x.data(), x.elements(), 1.0f);
  const Tensor y = dropout(x, 0.25f, 7);
  int64_t zeros = 0;
  for (const float v : y.values()) {
    zeros += v == 0;
    EXPECT_TRUE(v == 0 || v == 1 / 0.75f);
  }
  EXPECT_NEAR(static_cast<double>(zeros) / 1e5, 0.25, 0.007);  // five deviations
  EXPECT_NE(values(y), values(dropout(x, 0.25f, 8)));
}

TEST(Dropout, IsAFunctionOfKeyAndElement) {
  const Tensor x = random_tensor({300, 400}, 1);
  const Tensor y = dropout(x, 0.5f, 3);
  set_threads(3);
  EXPECT_EQ(values(dropout(x, 0.5f, 3)), values(y));
  set_threads(0);
  EXPECT_EQ(dropout(x, 0, 3).id(), x.id());
  EXPECT_THROW(dropout(x, 1, 3), CheckFailed);
}

// 24 bits of splitmix64's finaliser over key and element, against the rate.
TEST(Dropout, IsItsEquationAtOddSizes) {
  const auto mix = [](uint64_t z) {
    z += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
  };
  for (const int64_t n : {1, 7, 33, 1001}) {
    const Tensor x = random_tensor({n}, 1);
    expect_is(dropout(x, 0.3f, 11), {n}, [&](int64_t i) {
      const auto bits = static_cast<double>(mix(mix(11) ^ static_cast<uint64_t>(i)) >> 40);
      return bits < std::floor(double{0.3f} * (1 << 24)) ? 0.0 : x.data()[i] / (1 - double{0.3f});
    });
  }
}

TEST(Dropout, GradientMeetsFiniteDifferences) {
  const Tensor x = random_tensor({20}, 2);
  expect_gradients({x}, [&] { return dropout(x, 0.4f, 5); });
}

TEST(StopGradient, GivesTheValuesAsAConstant) {
  Tape tape;
  Exec exec{.tape = &tape};
  ExecScope scope(exec);
  const Tensor x = Tensor::from({1}, std::vector<float>{3});
  tape.watch(x);
  const Tensor still = stop_gradient(x);
  EXPECT_EQ(still.data()[0], 3.0f);
  EXPECT_FALSE(tape.needs_grad(still));
  tape.backward(mul(x, still));
  EXPECT_EQ(tape.grad(x).data()[0], 3.0f);
}

TEST(StraightThrough, HasTheValueOfOneAndTheGradientOfTheOther) {
  Tape tape;
  Exec exec{.tape = &tape};
  ExecScope scope(exec);
  const Tensor x = Tensor::from({1}, std::vector<float>{3}), hard = Tensor::from({1}, std::vector<float>{1});
  tape.watch(x);
  const Tensor y = straight_through(hard, square(x));
  EXPECT_EQ(y.data()[0], 1.0f);
  tape.backward(y);
  EXPECT_EQ(tape.grad(x).data()[0], 6.0f);
}

TEST(Choices, AreTheFirstOfTheLargest) {
  const Tensor x = Tensor::from({2, 4}, std::vector<float>{1, 3, 3, 2, 5, 0, 4, 5});
  EXPECT_THAT(argmax(x), ElementsAre(1, 0));
  const TopK top = top_k(x, 3);
  EXPECT_THAT(top.columns, ElementsAre(1, 2, 3, 0, 3, 2));
  EXPECT_THAT(values(top.values), ElementsAre(3, 3, 2, 5, 5, 4));
  EXPECT_THAT(values(one_hot(std::vector<int32_t>{1, -1}, 2)), ElementsAre(0, 1, 0, 0));
  EXPECT_THROW(top_k(x, 5), CheckFailed);
  EXPECT_THROW(one_hot(std::vector<int32_t>{2}, 2), CheckFailed);
}

TEST(Choices, TheLargestHaveGradients) {
  const Tensor x = random_tensor({2, 6}, 1);
  expect_gradients({x}, [&] { return top_k(x, 2).values; });
}

}  // namespace train_test
}  // namespace fovea::tensor
