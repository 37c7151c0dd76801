#include "fovea/tensor/ops/math/add.h"

#include <gtest/gtest.h>

#include "fovea/base/check.h"
#include "fovea/tensor/testing/gradient_check.h"

namespace fovea::tensor {
namespace add_test {

TEST(Add, AddsElementByElement) {
  const Tensor y = add(Tensor::from({2}, std::vector<float>{1, 2}), Tensor::from({2}, std::vector<float>{10, 20}));
  EXPECT_EQ(y.data()[0], 11.0f);
  EXPECT_EQ(y.data()[1], 22.0f);
}

TEST(Add, RefusesOtherShapesAndNamesThem) {
  EXPECT_THROW(add(Tensor::zeros({2, 3}), Tensor::zeros({3, 2})), CheckFailed);
}

TEST(Add, GradientMeetsFiniteDifferences) {
  const Tensor a = random_tensor({3, 5}, 1), b = random_tensor({3, 5}, 2);
  expect_gradients({a, b}, [&] { return add(a, b); });
}

TEST(Add, AValueAddedToItselfGetsBothGradients) {
  const Tensor a = random_tensor({4}, 3);
  expect_gradients({a}, [&] { return add(a, a); });
}

TEST(Add, LongVectorsAreCutWithoutGaps) {
  const int64_t n = 3 * 16384 + 17;  // over the limit from which the pool takes part
  Tensor a = Tensor::empty({n});
  for (int64_t i = 0; i < n; ++i) a.data()[i] = static_cast<float>(i);
  const Tensor y = add(a, a);
  for (int64_t i = 0; i < n; ++i) ASSERT_EQ(y.data()[i], 2.0f * static_cast<float>(i)) << i;
}

}  // namespace add_test
}  // namespace fovea::tensor
