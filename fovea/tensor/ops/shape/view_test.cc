#include "fovea/tensor/ops/shape/view.h"

#include <gtest/gtest.h>

#include "fovea/base/check.h"
#include "fovea/tensor/ops/math/mul.h"
#include "fovea/tensor/testing/gradient_check.h"

namespace fovea::tensor {
namespace view_test {

TEST(View, HeadsSplitAndMergeWithoutCopying) {
  const Tensor x = random_tensor({2, 12}, 1);
  const Tensor heads = split_heads(x, 3);
  EXPECT_EQ(heads.shape(), Shape({2, 3, 4}));
  EXPECT_EQ(merge_heads(heads).shape(), x.shape());
  EXPECT_EQ(heads.data(), x.data());
}

TEST(View, RefusesWhatDoesNotFit) {
  EXPECT_THROW(split_heads(Tensor::zeros({2, 10}), 3), CheckFailed);
  EXPECT_THROW(merge_heads(Tensor::zeros({2, 10})), CheckFailed);
  EXPECT_THROW(reshape(Tensor::zeros({2, 10}), {19}), CheckFailed);
}

TEST(View, GradientsPassThrough) {
  const Tensor x = random_tensor({2, 6}, 2);
  const Tensor y = random_tensor({6, 2}, 3);
  expect_gradients({x, y}, [&] { return merge_heads(split_heads(mul(reshape(x, {6, 2}), y), 2)); });
}

}  // namespace view_test
}  // namespace fovea::tensor
