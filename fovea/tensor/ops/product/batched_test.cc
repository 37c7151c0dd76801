#include "fovea/tensor/ops/product/batched.h"

#include <gtest/gtest.h>

#include "fovea/base/check.h"
#include "fovea/tensor/testing/gradient_check.h"

namespace fovea::tensor {
namespace batched_test {

TEST(BatchedProduct, MultipliesEveryPairInAnyOrientation) {
  for (const bool ta : {false, true}) {
    for (const bool tb : {false, true}) {
      SCOPED_TRACE(std::to_string(ta) + std::to_string(tb));
      const Tensor a = random_tensor(ta ? Shape{2, 3, 4} : Shape{2, 4, 3}, 1);
      const Tensor b = random_tensor(tb ? Shape{2, 5, 3} : Shape{2, 3, 5}, 2);
      const Tensor y = batched_product(a, b, {ta, tb});
      ASSERT_EQ(y.shape(), Shape({2, 4, 5}));
      for (int64_t i = 0; i < 2; ++i) {
        for (int64_t r = 0; r < 4; ++r) {
          for (int64_t c = 0; c < 5; ++c) {
            double sum = 0;
            for (int64_t p = 0; p < 3; ++p)
              sum += double{a.data()[i * 12 + (ta ? p * 4 + r : r * 3 + p)]} *
                     b.data()[i * 15 + (tb ? c * 3 + p : p * 5 + c)];
            EXPECT_NEAR(y.data()[(i * 4 + r) * 5 + c], sum, 1e-5);
          }
        }
      }
      expect_gradients({a, b}, [&] { return batched_product(a, b, {ta, tb}); });
    }
  }
}

TEST(BatchedProduct, OfMatricesAloneIsOneProduct) {
  const Tensor a = random_tensor({2, 3}, 1), b = random_tensor({3, 2}, 2);
  expect_gradients({a, b}, [&] { return batched_product(a, b); });
}

TEST(BatchedProduct, RefusesSizesThatDoNotMeet) {
  EXPECT_THROW(batched_product(Tensor::zeros({2, 3, 4}), Tensor::zeros({2, 3, 4})), CheckFailed);
  EXPECT_THROW(batched_product(Tensor::zeros({2, 3, 4}), Tensor::zeros({1, 4, 3})), CheckFailed);
  EXPECT_THROW(batched_product(Tensor::zeros({4}), Tensor::zeros({4})), CheckFailed);
}

}  // namespace batched_test
}  // namespace fovea::tensor
