#include "fovea/tensor/weight.h"

#include <gtest/gtest.h>

#include "fovea/base/check.h"

namespace fovea::tensor {
namespace weight_test {

TEST(Weight, FromATensorSharesItsValues) {
  Tensor values = Tensor::zeros({3, 2});
  const Weight w = Weight::from("w", values);
  EXPECT_EQ(w.rows(), 3);
  EXPECT_EQ(w.cols(), 2);
  values.data()[5] = 7.0f;
  EXPECT_EQ(static_cast<const float*>(w.view.data)[5], 7.0f);
  EXPECT_EQ(weight_values(w).id(), values.id());
}

TEST(Weight, AVectorIsOneRow) {
  const Weight w = Weight::from("w", Tensor::zeros({5}));
  EXPECT_EQ(w.rows(), 1);
  EXPECT_EQ(w.cols(), 5);
}

TEST(Weight, OfNoMatrixIsRefusedByName) {
  EXPECT_THROW(Weight::from("w", Tensor::zeros({1, 2, 3})), CheckFailed);
  EXPECT_THROW(Weight::from("w", Tensor()), CheckFailed);
  EXPECT_FALSE(Weight().defined());
}

TEST(Weight, AFrozenOneIsCopiedOutAsFloat32) {
  const float bytes[] = {1, 2, 3, 4, 5, 6};
  Weight w;
  w.view = {.dtype = kernels::DType::kF32, .rows = 2, .cols = 3, .data = bytes};
  const Tensor values = weight_values(w);
  EXPECT_EQ(values.shape(), Shape({2, 3}));
  EXPECT_EQ(values.data()[4], 5.0f);
}

TEST(Weight, ATrainableOneIsNeverPacked) {
  Weight w = Weight::from("w", Tensor::zeros({32, 32}));
  EXPECT_EQ(pack_weight(w), 0u);
  EXPECT_EQ(w.packed, nullptr);
}

}  // namespace weight_test
}  // namespace fovea::tensor
