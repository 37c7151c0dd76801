#include "fovea/tensor/ops/recurrent/decay_scan.h"

#include <gtest/gtest.h>

#include "fovea/base/check.h"
#include "fovea/tensor/ops/shape/copy.h"
#include "fovea/tensor/testing/golden_tensors.h"
#include "fovea/tensor/testing/gradient_check.h"
#include "fovea/tensor/testing/thread_check.h"
#include "fovea/tensor/testing/twin.h"

namespace fovea::tensor {
namespace decay_scan_test {

using Inputs = const std::vector<Tensor>&;

TEST(DecayScan, ForgetsByItsDecay) {
  const Tensor x = Tensor::from({1, 3, 1}, std::vector<float>{8, 0, 1}),
               half = Tensor::from({1, 3, 1}, std::vector<float>{0.5f, 0.5f, 0.5f});
  const Tensor y = decay_scan(x, half), begun = decay_scan(x, half, Tensor::from({1, 1}, std::vector<float>{4}));
  EXPECT_EQ(std::vector<float>(y.values().begin(), y.values().end()), (std::vector<float>{8, 4, 3}));
  EXPECT_EQ(std::vector<float>(begun.values().begin(), begun.values().end()), (std::vector<float>{10, 5, 3.5f}));
}

TEST(DecayScan, IsItsEquationAtOddSizes) {
  for (const int64_t n : {1, 2, 9}) {
    for (const int64_t d : {1, 33}) {
      const Tensor x = random_tensor({2, n, d}, 1), decay = random_tensor({2, n, d}, 2, 0.6);
      const Tensor first = random_tensor({2, d}, 3);
      for (const Tensor& from : {first, Tensor()}) {
        expect_is(decay_scan(x, decay, from), x.shape(), [&](int64_t i) {
          double h = from.defined() ? from.data()[i / (n * d) * d + i % d] : 0;
          for (int64_t t = 0; t <= i / d % n; ++t) {
            const int64_t at = (i / (n * d) * n + t) * d + i % d;
            h = decay.data()[at] * h + x.data()[at];
          }
          return h;
        });
      }
    }
  }
}

TEST(DecayScan, InTwoPartsIsTheWhole) {
  const Tensor x = random_tensor({2, 6, 70}, 1), decay = random_tensor({2, 6, 70}, 2, 0.3);
  const Tensor whole = decay_scan(x, decay);
  const Tensor first = decay_scan(slice(x, 1, 0, 4), slice(decay, 1, 0, 4));
  const Tensor state = slice(first, 1, 3, 4).with_shape({2, 70});
  const Tensor second = decay_scan(slice(x, 1, 4, 6), slice(decay, 1, 4, 6), state);
  const Tensor joined = concat({first, second}, 1);
  for (int64_t i = 0; i < whole.elements(); ++i) ASSERT_EQ(joined.data()[i], whole.data()[i]) << i;
}

TEST(DecayScan, GradientsMeetFiniteDifferences) {
  const Tensor x = random_tensor({2, 4, 3}, 1), decay = random_tensor({2, 4, 3}, 2, 0.5),
               first = random_tensor({2, 3}, 3);
  expect_gradients({x, decay, first}, [&] { return decay_scan(x, decay, first); });
  expect_gradients({decay}, [&] { return decay_scan(x, decay); });
}

TEST(DecayScan, IsWhatPyTorchGives) {
  expect_op_golden("decay_scan", [](Inputs in) { return decay_scan(in[0], in[1], in[2]); });
}

TEST(DecayScan, HasTheSameBitsOnAnyThreads) {
  const Tensor x = random_tensor({3, 60, 331}, 1), decay = random_tensor({3, 60, 331}, 2, 0.4);
  const Tensor first = random_tensor({3, 331}, 3);
  expect_same_bits_on_any_threads({x, decay, first}, [&] { return decay_scan(x, decay, first); });
}

TEST(DecayScan, RefusesShapesThatDiffer) {
  EXPECT_THROW(decay_scan(Tensor::zeros({1, 2, 3}), Tensor::zeros({1, 2, 2})), CheckFailed);
  EXPECT_THROW(decay_scan(Tensor::zeros({1, 2, 3}), Tensor::zeros({1, 2, 3}), Tensor::zeros({2, 3})), CheckFailed);
}

}  // namespace decay_scan_test
}  // namespace fovea::tensor
