#include "fovea/tensor/ops/reduce/reduce.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <span>

#include "fovea/base/check.h"
#include "fovea/tensor/ops/reduce/softmax.h"
#include "fovea/tensor/testing/gradient_check.h"

namespace fovea::tensor {
namespace reduce_test {

using ::testing::ElementsAre;

std::vector<float> values(const Tensor& t) { return {t.values().begin(), t.values().end()}; }

TEST(Reduce, GoesOverTheDimensionThatIsNamed) {
  const Tensor x = Tensor::from({2, 3}, std::vector<float>{1, 5, 3, 4, 2, 6});
  EXPECT_THAT(values(sum(x, 0)), ElementsAre(5, 7, 9));
  EXPECT_THAT(values(sum(x, -1)), ElementsAre(9, 12));
  EXPECT_THAT(values(mean(x, 1)), ElementsAre(3, 4));
  EXPECT_THAT(values(max(x, 0)), ElementsAre(4, 5, 6));
  EXPECT_THAT(values(max(x, 1)), ElementsAre(5, 6));
  EXPECT_EQ(sum(x).data()[0], 21.0f);
  EXPECT_EQ(mean(x).data()[0], 3.5f);
  EXPECT_THAT(values(l2_norm(Tensor::from({1, 2}, std::vector<float>{3, 4}), 1)), ElementsAre(5));
  EXPECT_EQ(sum(random_tensor({2, 3, 4}, 1), 1).shape(), Shape({2, 4}));
  EXPECT_THROW(sum(x, 2), CheckFailed);
}

TEST(Reduce, GoesOverOneOfSixDimensions) {
  const Tensor x = random_tensor({2, 3, 1, 2, 4, 3}, 1);
  for (int dim = 0; dim < 6; ++dim) {
    std::vector<int64_t> left;
    int64_t outer = 1, inner = 1;
    for (int i = 0; i < 6; ++i) {
      if (i < dim) outer *= x.dim(i);
      if (i > dim) inner *= x.dim(i);
      if (i != dim) left.push_back(x.dim(i));
    }
    const Tensor y = sum(x, dim), m = max(x, dim);
    ASSERT_EQ(y.shape(), Shape(std::span<const int64_t>(left)));
    for (int64_t o = 0; o < outer; ++o) {
      for (int64_t c = 0; c < inner; ++c) {
        double total = 0;
        float most = -1e9f;
        for (int64_t i = 0; i < x.dim(dim); ++i) {
          const float v = x.data()[(o * x.dim(dim) + i) * inner + c];
          total += v, most = std::max(most, v);
        }
        ASSERT_NEAR(y.data()[o * inner + c], total, 1e-5) << dim;
        ASSERT_EQ(m.data()[o * inner + c], most) << dim;
      }
    }
    expect_gradients({x}, [&] { return mean(x, dim); });
  }
}

TEST(Reduce, GradientsMeetFiniteDifferences) {
  const Tensor x = random_tensor({2, 3, 4}, 1);
  for (const int dim : {0, 1, 2, -1}) {
    expect_gradients({x}, [&] { return sum(x, dim); });
    expect_gradients({x}, [&] { return mean(x, dim); });
    expect_gradients({x}, [&] { return max(x, dim); });
    expect_gradients({x}, [&] { return l2_norm(x, dim); });
  }
  expect_gradients({x}, [&] { return mean(x); });
}

TEST(Softmax, AndItsLogarithmsMeetTheirDefinition) {
  const Tensor x = random_tensor({3, 21}, 2, 3.0);
  const Tensor p = softmax(x), log_p = log_softmax(x), total = logsumexp(x);
  EXPECT_EQ(total.shape(), Shape({3}));
  for (int64_t r = 0; r < 3; ++r) {
    double sum = 0;
    for (int64_t i = 0; i < 21; ++i) sum += std::exp(double{x.data()[r * 21 + i]});
    EXPECT_NEAR(total.data()[r], std::log(sum), 1e-5);
    for (int64_t i = r * 21; i < (r + 1) * 21; ++i) {
      EXPECT_NEAR(p.data()[i], std::exp(double{x.data()[i]}) / sum, 1e-6);
      EXPECT_NEAR(log_p.data()[i], x.data()[i] - std::log(sum), 1e-5);
    }
  }
}

TEST(Softmax, GradientsMeetFiniteDifferences) {
  const Tensor x = random_tensor({2, 2, 5}, 3);
  expect_gradients({x}, [&] { return softmax(x); });
  expect_gradients({x}, [&] { return log_softmax(x); });
  expect_gradients({x}, [&] { return logsumexp(x); });
}

}  // namespace reduce_test
}  // namespace fovea::tensor
