#include "fovea/tensor/ops/image/resize.h"

#include <gtest/gtest.h>

#include "fovea/base/check.h"
#include "fovea/tensor/testing/golden_tensors.h"
#include "fovea/tensor/testing/gradient_check.h"
#include "fovea/tensor/testing/thread_check.h"

namespace fovea::tensor {
namespace resize_test {

using Inputs = const std::vector<Tensor>&;

std::vector<float> values(const Tensor& x) { return {x.values().begin(), x.values().end()}; }

TEST(Resize, RepeatsOrDrawsLinesBetweenPixels) {
  const Tensor x = Tensor::from({1, 1, 1, 2}, std::vector<float>{0, 4});
  EXPECT_EQ(values(resize(x, {1, 4}, {.filter = Filter::kNearest})), (std::vector<float>{0, 0, 4, 4}));
  EXPECT_EQ(values(resize(x, {1, 4})), (std::vector<float>{0, 1, 3, 4}));
  EXPECT_EQ(values(resize(x, {1, 3}, {.align_corners = true})), (std::vector<float>{0, 2, 4}));
  EXPECT_EQ(values(upsample(x, 2)), (std::vector<float>{0, 0, 4, 4, 0, 0, 4, 4}));
}

TEST(Resize, ToTheSameSizeChangesNothing) {
  const Tensor x = random_tensor({2, 3, 5, 7}, 1);
  for (const Filter filter : {Filter::kNearest, Filter::kLinear, Filter::kCubic}) {
    EXPECT_EQ(values(resize(x, {5, 7}, {.filter = filter})), values(x));
  }
}

TEST(Resize, KeepsAConstant) {
  Tensor x = Tensor::empty({1, 1, 9, 7});
  std::fill_n(x.data(), x.elements(), 3.0f);
  for (const bool antialias : {false, true}) {
    const Tensor y = resize(x, {4, 15}, {.filter = Filter::kCubic, .antialias = antialias});
    for (const float v : y.values()) EXPECT_NEAR(v, 3, 1e-5);
  }
}

TEST(Resize, GradientsMeetFiniteDifferences) {
  const Tensor x = random_tensor({2, 2, 4, 3}, 1);
  for (const Filter filter : {Filter::kNearest, Filter::kLinear, Filter::kCubic}) {
    expect_gradients({x}, [&] { return resize(x, {3, 5}, {.filter = filter}); });
    expect_gradients({x}, [&] { return resize(x, {2, 2}, {.filter = filter, .antialias = true}); });
  }
}

TEST(Resize, IsWhatPyTorchGives) {
  const auto with = [](HeightWidth to, Resize how) { return [to, how](Inputs in) { return resize(in[0], to, how); }; };
  expect_op_golden("nearest", with({13, 5}, {.filter = Filter::kNearest}));
  expect_op_golden("linear", with({13, 5}, {}));
  expect_op_golden("linear_aligned", with({13, 5}, {.align_corners = true}));
  expect_op_golden("cubic", with({13, 5}, {.filter = Filter::kCubic}));
  expect_op_golden("linear_antialias", with({4, 3}, {.antialias = true}));
  expect_op_golden("cubic_antialias", with({4, 3}, {.filter = Filter::kCubic, .antialias = true}));
}

TEST(Resize, HasTheSameBitsOnAnyThreads) {
  const Tensor x = random_tensor({4, 6, 33, 35}, 1);
  expect_same_bits_on_any_threads({x}, [&] { return resize(x, {50, 21}); });
}

TEST(Resize, RefusesNoSize) {
  EXPECT_THROW(resize(Tensor::zeros({1, 1, 4, 4}), {0, 4}), CheckFailed);
  EXPECT_THROW(upsample(Tensor::zeros({1, 1, 4, 4}), 0), CheckFailed);
  EXPECT_THROW(resize(Tensor::zeros({4, 4}), {2, 2}), CheckFailed);
}

}  // namespace resize_test
}  // namespace fovea::tensor
