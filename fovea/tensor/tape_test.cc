#include "fovea/tensor/tape.h"

#include <gtest/gtest.h>

#include "fovea/base/check.h"
#include "fovea/tensor/edit_guard.h"
#include "fovea/tensor/ops/ops.h"
#include "fovea/tensor/testing/gradient_check.h"

namespace fovea::tensor {
namespace tape_test {

// sum(x), with a gradient.
Tensor total(const Tensor& x) {
  Tensor ones = Tensor::empty({1, x.elements()});
  std::fill_n(ones.data(), ones.elements(), 1.0f);
  return matmul(reshape(x, {1, x.elements()}), Weight::from("ones", ones));
}

TEST(Tape, RecordsNothingThatNoGradientWasAskedFor) {
  Tape tape;
  Exec exec{.tape = &tape};
  ExecScope scope(exec);
  const Tensor x = random_tensor({3}, 1);
  EXPECT_FALSE(tape.needs_grad(silu(x)));
  tape.watch(x);
  EXPECT_TRUE(tape.needs_grad(silu(x)));
  EXPECT_THROW(tape.grad(random_tensor({3}, 2)), CheckFailed);
}

TEST(Tape, KeepsTheGradientOfAWatchedValueInTheMiddle) {
  Tape tape;
  Exec exec{.tape = &tape};
  ExecScope scope(exec);
  const Tensor x = Tensor::from({2}, std::vector<float>{1, 2});
  tape.watch(x);
  const Tensor middle = mul(x, x);
  const Tensor other = mul(x, x);
  tape.watch(middle);
  tape.backward(total(add(mul(middle, middle), other)));
  EXPECT_EQ(tape.grad(middle).data()[1], 8.0f);        // 2 m
  EXPECT_EQ(tape.grad(x).data()[1], 4 * 8.0f + 4.0f);  // 4 x^3 + 2 x
  EXPECT_THROW(tape.grad(other), CheckFailed);         // freed after use
}

TEST(Tape, GradientsAddUpOverPasses) {
  Tape tape;
  Exec exec{.tape = &tape};
  ExecScope scope(exec);
  const Tensor x = Tensor::from({1}, std::vector<float>{3});
  tape.watch(x);
  for (int pass = 0; pass < 2; ++pass) tape.backward(total(mul(x, x)));
  EXPECT_EQ(tape.grad(x).data()[0], 12.0f);
}

TEST(Tape, AViewSharesTheGradientInItsOwnShape) {
  Tape tape;
  Exec exec{.tape = &tape};
  ExecScope scope(exec);
  const Tensor x = random_tensor({2, 3}, 3);
  tape.watch(x);
  tape.backward(total(x));
  EXPECT_EQ(tape.grad(reshape(x, {6})).shape(), Shape({6}));
  EXPECT_EQ(tape.grad(x).shape(), x.shape());
  EXPECT_EQ(tape.grad(x).data()[5], 1.0f);
}

TEST(Tape, ASeedOfTheValuesShapeStartsBackward) {
  Tape tape;
  Exec exec{.tape = &tape};
  ExecScope scope(exec);
  const Tensor x = Tensor::from({2}, std::vector<float>{1, 2});
  tape.watch(x);
  tape.backward(mul(x, x), Tensor::from({2}, std::vector<float>{10, 100}));
  EXPECT_EQ(tape.grad(x).data()[0], 20.0f);
  EXPECT_EQ(tape.grad(x).data()[1], 400.0f);
  EXPECT_THROW(tape.backward(mul(x, x), random_tensor({1, 2}, 1)), CheckFailed);
}

TEST(Tape, AKeptGraphGivesEverySeedsGradient) {
  Tape tape;
  Exec exec{.tape = &tape};
  ExecScope scope(exec);
  const Tensor x = Tensor::from({2}, std::vector<float>{1, 3});
  tape.watch(x);
  const Tensor middle = mul(x, x);
  tape.watch(middle);
  const Tensor y = mul(middle, middle);  // x^4
  for (const int i : {0, 1}) {
    Tensor seed = Tensor::zeros({2});
    seed.data()[i] = 1;
    tape.backward(y, seed, true);
  }
  EXPECT_EQ(tape.grad(x).data()[0], 4.0f);
  EXPECT_EQ(tape.grad(x).data()[1], 4 * 27.0f);
  EXPECT_EQ(tape.grad(middle).data()[1], 2 * 9.0f);
  tape.backward(middle, Tensor::from({2}, std::vector<float>{1, 1}));  // from another value, and the last time
  EXPECT_EQ(tape.grad(x).data()[1], 4 * 27.0f + 6.0f);
  EXPECT_EQ(tape.grad(middle).data()[1], 2 * 9.0f + 1.0f);
}

TEST(Tape, AGuardTellsWhatWasWrittenInPlace) {
  Tape tape;
  Exec exec{.tape = &tape};
  ExecScope scope(exec);
  Tensor x = random_tensor({3}, 1), free = random_tensor({3}, 2);
  tape.watch(x);
  const EditGuard of_x(x), of_free(free);
  EXPECT_FALSE(of_x.edited());
  x.data()[1] += 1, free.data()[1] += 1;
  EXPECT_TRUE(of_x.edited());
  EXPECT_FALSE(of_free.edited());  // no gradient flows there
}

TEST(Tape, BackwardWantsOneElement) {
  Tape tape;
  Exec exec{.tape = &tape};
  ExecScope scope(exec);
  const Tensor x = random_tensor({2}, 4);
  tape.watch(x);
  EXPECT_THROW(tape.backward(silu(x)), CheckFailed);
}

TEST(Tape, WhatTheLossDoesNotUseGetsNoGradient) {
  Tape tape;
  Exec exec{.tape = &tape};
  ExecScope scope(exec);
  const Tensor x = random_tensor({2}, 5);
  tape.watch(x);
  const Tensor unused = silu(x);
  tape.backward(total(x));
  EXPECT_EQ(tape.grad(x).data()[0], 1.0f);
}

}  // namespace tape_test
}  // namespace fovea::tensor
