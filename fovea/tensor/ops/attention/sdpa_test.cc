#include "fovea/tensor/ops/attention/sdpa.h"

#include <gtest/gtest.h>

#include <cmath>

#include "fovea/base/check.h"
#include "fovea/tensor/testing/gradient_check.h"

namespace fovea::tensor {
namespace sdpa_test {

TEST(Sdpa, MixesTheVisibleValues) {
  const Tensor q = Tensor::from({2, 1, 1}, std::vector<float>{1, 1});
  const Tensor k = Tensor::from({2, 1, 1}, std::vector<float>{0, std::log(3.0f)});
  const Tensor v = Tensor::from({2, 1, 1}, std::vector<float>{8, 4});
  const Tensor z = sdpa(q, k, v, std::vector<int32_t>{0, 1}, std::vector<int32_t>{0, 0}, 1.0f);
  EXPECT_NEAR(z.data()[0], 8.0f, 1e-6);               // sees itself only
  EXPECT_NEAR(z.data()[1], (8 + 3 * 4) / 4.0, 1e-6);  // pattern 1/4, 3/4
}

TEST(Sdpa, SequencesDoNotSeeEachOther) {
  const Tensor q = random_tensor({2, 2, 4}, 1), k = random_tensor({2, 1, 4}, 2), v = random_tensor({2, 1, 4}, 3);
  const Tensor z = sdpa(q, k, v, std::vector<int32_t>{0, 1}, std::vector<int32_t>{7, 8}, 1.0f);
  for (int64_t c = 0; c < 4; ++c) EXPECT_EQ(z.data()[8 + c], v.data()[4 + c]);
}

TEST(Sdpa, ThePositionAndNotTheIndexDecides) {
  const Tensor q = random_tensor({2, 1, 4}, 1), k = random_tensor({2, 1, 4}, 2), v = random_tensor({2, 1, 4}, 3);
  const Tensor z = sdpa(q, k, v, std::vector<int32_t>{5, 4}, std::vector<int32_t>{0, 0}, 1.0f);
  for (int64_t c = 0; c < 4; ++c) {
    EXPECT_EQ(z.data()[4 + c], v.data()[4 + c]);
    EXPECT_NE(z.data()[c], v.data()[c]);
  }
}

TEST(Sdpa, RefusesHeadsThatDoNotGroup) {
  const std::vector<int32_t> one = {0};
  EXPECT_THROW(sdpa(Tensor::zeros({1, 3, 4}), Tensor::zeros({1, 2, 4}), Tensor::zeros({1, 2, 4}), one, one, 1.0f),
               CheckFailed);
}

TEST(Sdpa, GradientMeetsFiniteDifferences) {
  const Tensor q = random_tensor({4, 4, 3}, 4), k = random_tensor({4, 2, 3}, 5), v = random_tensor({4, 2, 3}, 6);
  const std::vector<int32_t> positions = {0, 1, 0, 2}, sequences = {0, 0, 1, 0};
  const auto compute = [&] { return sdpa(q, k, v, positions, sequences, 0.7f); };
  expect_gradients({q, k, v}, compute);
  expect_gradients({v}, compute);
  expect_gradients({k}, compute);
}

}  // namespace sdpa_test
}  // namespace fovea::tensor
