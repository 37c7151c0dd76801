#include "fovea/tensor/ops/norm/layer_norm.h"

#include <gtest/gtest.h>

#include "fovea/base/check.h"
#include "fovea/tensor/ops/math/binary.h"
#include "fovea/tensor/ops/math/mul.h"
#include "fovea/tensor/ops/math/unary.h"
#include "fovea/tensor/ops/norm/rms_norm.h"
#include "fovea/tensor/ops/reduce/reduce.h"
#include "fovea/tensor/testing/gradient_check.h"

namespace fovea::tensor {
namespace layer_norm_test {

// The same out of plain ops.
Tensor composed(const Tensor& x, const Tensor& w, const Tensor& b, float eps) {
  const Tensor centred = sub(x, mean(x, -1).with_shape({x.dim(0), 1}));
  const Tensor deviation = sqrt(affine(mean(square(centred), -1), 1, eps)).with_shape({x.dim(0), 1});
  return add_spread(mul_spread(div(centred, deviation), w), b);
}

TEST(LayerNorm, IsWhatPlainOpsGive) {
  const Tensor x = random_tensor({3, 10}, 1), w = random_tensor({10}, 2), b = random_tensor({10}, 3);
  const Tensor y = layer_norm(x, Weight::from("w", w), Weight::from("b", b), 1e-5f), twin = composed(x, w, b, 1e-5f);
  for (int64_t i = 0; i < y.elements(); ++i) EXPECT_NEAR(y.data()[i], twin.data()[i], 2e-6);
}

TEST(LayerNorm, WithoutWeightsHasMeanZeroAndVarianceOne) {
  const Tensor y = layer_norm(random_tensor({1, 50}, 4, 3.0), Weight(), Weight(), 0.0f);
  EXPECT_NEAR(mean(y).data()[0], 0, 1e-6);
  EXPECT_NEAR(mean(square(y)).data()[0], 1, 1e-5);
}

TEST(LayerNorm, GradientsMeetFiniteDifferences) {
  const Tensor x = random_tensor({3, 6}, 5), w = random_tensor({6}, 6), b = random_tensor({6}, 7);
  const Weight weight = Weight::from("w", w), bias = Weight::from("b", b);
  expect_gradients({x, w, b}, [&] { return layer_norm(x, weight, bias, 1e-3f); });
  expect_gradients({x}, [&] { return layer_norm(x, Weight(), Weight(), 1e-3f); });
  expect_gradients({b}, [&] { return layer_norm(x, weight, bias, 1e-3f); });
}

TEST(LayerNorm, HasTheBitsOfItsParts) {
  const Tensor x = random_tensor({3, 37}, 8), w = random_tensor({37}, 9), b = random_tensor({37}, 10);
  const Weight weight = Weight::from("w", w), bias = Weight::from("b", b);
  const Tensor whole = layer_norm(x, weight, bias, 1e-5f), c = center(x);
  const Tensor parts = add_spread(scale_columns(rms_normalize(c, rms_scale(c, 1e-5f)), weight), b);
  for (int64_t i = 0; i < whole.elements(); ++i) ASSERT_EQ(whole.data()[i], parts.data()[i]) << i;
  expect_gradients({x}, [&] { return mul(center(x), center(x)); });
}

TEST(LayerNorm, RefusesAWeightOfAnotherLength) {
  EXPECT_THROW(layer_norm(Tensor::zeros({1, 3}), Weight::from("w", Tensor::zeros({2})), Weight(), 1e-5f), CheckFailed);
}

}  // namespace layer_norm_test
}  // namespace fovea::tensor
