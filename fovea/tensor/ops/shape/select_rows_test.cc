#include "fovea/tensor/ops/shape/select_rows.h"

#include <gtest/gtest.h>

#include "fovea/base/check.h"
#include "fovea/tensor/testing/gradient_check.h"

namespace fovea::tensor {
namespace select_rows_test {

TEST(SelectRows, CopiesTheRowsInTheOrderAsked) {
  const Tensor x = Tensor::from({3, 2}, std::vector<float>{0, 1, 10, 11, 20, 21});
  const Tensor y = select_rows(x, std::vector<int32_t>{2, 0});
  EXPECT_EQ(y.shape(), Shape({2, 2}));
  EXPECT_EQ(y.data()[0], 20.0f);
  EXPECT_EQ(y.data()[3], 1.0f);
}

TEST(SelectRows, NoRowsGiveAnEmptyTensor) { EXPECT_EQ(select_rows(Tensor::zeros({3, 2}), {}).shape(), Shape({0, 2})); }

TEST(SelectRows, RefusesARowThatIsNotThere) {
  EXPECT_THROW(select_rows(Tensor::zeros({3, 2}), std::vector<int32_t>{3}), CheckFailed);
  EXPECT_THROW(select_rows(Tensor::zeros({3, 2}), std::vector<int32_t>{-1}), CheckFailed);
}

TEST(SelectRows, GradientAddsUpOverARowTakenTwice) {
  const Tensor x = random_tensor({3, 2, 2}, 1);
  expect_gradients({x}, [&] { return select_rows(x, std::vector<int32_t>{1, 2, 1}); });
}

}  // namespace select_rows_test
}  // namespace fovea::tensor
