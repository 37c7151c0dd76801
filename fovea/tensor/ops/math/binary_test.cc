#include "fovea/tensor/ops/math/binary.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fovea/base/check.h"
#include "fovea/tensor/testing/gradient_check.h"

namespace fovea::tensor {
namespace binary_test {

using ::testing::ElementsAre;

std::vector<float> values(const Tensor& t) { return {t.values().begin(), t.values().end()}; }

TEST(Binary, SpreadsRowsColumnsAndOneValue) {
  const Tensor a = Tensor::from({2, 3}, std::vector<float>{1, 2, 3, 4, 5, 6});
  EXPECT_THAT(values(sub(a, Tensor::from({3}, std::vector<float>{1, 2, 3}))), ElementsAre(0, 0, 0, 3, 3, 3));
  EXPECT_THAT(values(sub(a, Tensor::from({2, 1}, std::vector<float>{1, 4}))), ElementsAre(0, 1, 2, 0, 1, 2));
  EXPECT_THAT(values(mul_spread(a, Tensor::from({1}, std::vector<float>{2}))), ElementsAre(2, 4, 6, 8, 10, 12));
  EXPECT_THAT(values(div(a, a)), ElementsAre(1, 1, 1, 1, 1, 1));
  EXPECT_THAT(values(add_spread(a, Tensor::from({1, 3}, std::vector<float>{1, 0, 0}))), ElementsAre(2, 2, 3, 5, 5, 6));
}

TEST(Binary, SpreadsOverDimensionsInTheMiddle) {
  const Tensor a = Tensor::from({2, 2, 2}, std::vector<float>{1, 2, 3, 4, 5, 6, 7, 8});
  EXPECT_THAT(values(sub(a, Tensor::from({2, 1, 2}, std::vector<float>{1, 2, 5, 6}))),
              ElementsAre(0, 0, 2, 2, 0, 0, 2, 2));
}

TEST(Binary, SpreadsOverSixDimensions) {
  const Tensor a = random_tensor({2, 3, 1, 2, 4, 3}, 1), b = random_tensor({2, 1, 1, 2, 1, 3}, 2);
  const Tensor y = mul_spread(a, b);
  for (int64_t i = 0; i < y.elements(); ++i) {
    const int64_t at = i / 72 * 6 + i / 12 % 2 * 3 + i % 3;  // of b: dimensions 0, 3 and 5
    ASSERT_EQ(y.data()[i], a.data()[i] * b.data()[at]) << i;
  }
  expect_gradients({a, b}, [&] { return mul_spread(a, b); });
}

TEST(Binary, RefusesWhatDoesNotSpread) {
  EXPECT_THROW(sub(Tensor::zeros({2, 3}), Tensor::zeros({2})), CheckFailed);
  EXPECT_THROW(sub(Tensor::zeros({3}), Tensor::zeros({2, 3})), CheckFailed);
  EXPECT_THROW(where(Tensor::zeros({2}), Tensor::zeros({2}), Tensor::zeros({1})), CheckFailed);
}

TEST(Binary, WhereTakesOneOfTwo) {
  const Tensor c = Tensor::from({3}, std::vector<float>{1, 0, -1}), a = random_tensor({3}, 1),
               b = random_tensor({3}, 2);
  EXPECT_THAT(values(where(c, a, b)), ElementsAre(a.data()[0], b.data()[1], a.data()[2]));
  expect_gradients({a, b}, [&] { return where(c, a, b); });
}

TEST(Binary, GradientsMeetFiniteDifferences) {
  const Tensor a = random_tensor({2, 3, 4}, 1);
  for (const Shape& shape : {Shape{2, 3, 4}, Shape{4}, Shape{3, 1}, Shape{2, 1, 4}, Shape{1}}) {
    Tensor b = random_tensor(shape, 2);
    for (int64_t i = 0; i < b.elements(); ++i) b.data()[i] += b.data()[i] < 0 ? -2.0f : 2.0f;  // no division by 0
    SCOPED_TRACE(shape.to_string());
    expect_gradients({a, b}, [&] { return sub(a, b); });
    expect_gradients({a, b}, [&] { return div(a, b); });
    expect_gradients({a, b}, [&] { return add_spread(a, b); });
    expect_gradients({a, b}, [&] { return mul_spread(a, b); });
  }
}

}  // namespace binary_test
}  // namespace fovea::tensor
