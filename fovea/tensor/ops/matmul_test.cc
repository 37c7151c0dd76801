#include "fovea/tensor/ops/matmul.h"

#include <gtest/gtest.h>

#include "fovea/base/check.h"
#include "fovea/tensor/ops/cross_entropy.h"
#include "fovea/tensor/ops/gradient_check.h"

namespace fovea::tensor {
namespace {

// Doubles, in plain loops.
std::vector<double> product(const Tensor& x, const Tensor& w) {
  std::vector<double> y;
  for (int64_t t = 0; t < x.dim(0); ++t) {
    for (int64_t r = 0; r < w.dim(0); ++r) {
      double sum = 0;
      for (int64_t c = 0; c < x.dim(1); ++c)
        sum += static_cast<double>(x.data()[t * x.dim(1) + c]) * w.data()[r * x.dim(1) + c];
      y.push_back(sum);
    }
  }
  return y;
}

TEST(Matmul, IsThePlainProductAtEverySizeAroundAPanel) {
  for (const int64_t n : {1, 2, 5, 70}) {
    for (const int64_t rows : {1, 15, 16, 17, 40, 333}) {
      for (const int64_t cols : {1, 31, 32, 100}) {
        const Tensor x = random_tensor({n, cols}, 1), w = random_tensor({rows, cols}, 2);
        const Tensor y = matmul(x, Weight::from("w", w));
        const std::vector<double> expected = product(x, w);
        for (int64_t i = 0; i < y.elements(); ++i)  // float32 sums of up to 100 products near 1
          ASSERT_NEAR(y.data()[i], expected[static_cast<size_t>(i)], 2e-5) << n << " " << rows << " " << cols;
      }
    }
  }
}

TEST(Matmul, AddsTheBiasToEveryToken) {
  const Tensor x = Tensor::from({2, 1}, std::vector<float>{1, 2});
  const Weight w = Weight::from("w", Tensor::from({2, 1}, std::vector<float>{10, 20}));
  const Weight bias = Weight::from("b", Tensor::from({2}, std::vector<float>{0.5f, 0.25f}));
  const Tensor y = matmul(x, w, bias);
  EXPECT_EQ(y.data()[0], 10.5f);
  EXPECT_EQ(y.data()[1], 20.25f);
  EXPECT_EQ(y.data()[3], 40.25f);
}

TEST(Matmul, RefusesWhatDoesNotFit) {
  const Weight w = Weight::from("w", Tensor::zeros({2, 3}));
  EXPECT_THROW(matmul(Tensor::zeros({1, 2}), w), CheckFailed);
  EXPECT_THROW(matmul(Tensor::zeros({1, 3}), Weight()), CheckFailed);
  EXPECT_THROW(matmul(Tensor::zeros({1, 3}), w, Weight::from("b", Tensor::zeros({3}))), CheckFailed);
}

TEST(Matmul, NoTokensGiveAnEmptyTensor) {
  EXPECT_EQ(matmul(Tensor::zeros({0, 3}), Weight::from("w", Tensor::zeros({2, 3}))).shape(), Shape({0, 2}));
}

TEST(Matmul, GradientMeetsFiniteDifferences) {
  const Tensor x = random_tensor({3, 5}, 3), w = random_tensor({18, 5}, 4), b = random_tensor({18}, 5);
  const auto compute = [&] { return matmul(x, Weight::from("w", w), Weight::from("b", b)); };
  expect_gradients({x, w, b}, compute);
  expect_gradients({w}, compute);
}

TEST(Matmul, GradientsAddUpOverTwoUsesOfAWeight) {
  const Tensor x = random_tensor({3, 4}, 6), w = random_tensor({4, 4}, 7);
  expect_gradients({x, w}, [&] { return matmul(matmul(x, Weight::from("w", w)), Weight::from("w", w)); });
}

TEST(Matmul, GradientOfAWeightTallerThanAStepOfBackward) {
  const Tensor x = random_tensor({2, 3}, 8), w = random_tensor({1100, 3}, 9);
  expect_gradients({x}, [&] { return matmul(x, Weight::from("w", w)); });
}

TEST(Matmul, GradientToAWeightTallerThanAStepOfBackward) {
  const Tensor x = random_tensor({2, 3}, 8), w = random_tensor({1100, 3}, 9);
  const std::vector<int32_t> targets = {1090, 5};
  Tape tape;
  Exec exec{.tape = &tape};
  ExecScope scope(exec);
  tape.watch(w);
  const Tensor y = matmul(x, Weight::from("w", w));
  tape.watch(y);
  tape.backward(cross_entropy(y, targets));
  const float* dy = tape.grad(y).data();
  for (int64_t r = 0; r < 1100; ++r) {
    for (int64_t c = 0; c < 3; ++c) {
      const float expected = dy[r] * x.data()[c] + dy[1100 + r] * x.data()[3 + c];
      ASSERT_NEAR(tape.grad(w).data()[r * 3 + c], expected, 1e-6) << r << ", " << c;
    }
  }
}

TEST(Matmul, GradientPassesThroughAFrozenWeight) {
  const Tensor x = random_tensor({2, 3}, 10), values = random_tensor({5, 3}, 11);
  Weight frozen = Weight::from("w", values);
  frozen.value = Tensor();
  expect_gradients({x}, [&] { return matmul(x, frozen); });
}

}  // namespace
}  // namespace fovea::tensor
