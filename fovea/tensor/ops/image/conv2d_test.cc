#include "fovea/tensor/ops/image/conv2d.h"

#include <gtest/gtest.h>

#include "fovea/base/check.h"
#include "fovea/tensor/testing/golden_tensors.h"
#include "fovea/tensor/testing/gradient_check.h"
#include "fovea/tensor/testing/thread_check.h"

namespace fovea::tensor {
namespace conv2d_test {

using Inputs = const std::vector<Tensor>&;

// The equation in plain loops.
Tensor plain(const Tensor& x, const Tensor& w, const Tensor& bias, const Conv2d& how) {
  const auto out = [](int64_t n, int64_t k, int64_t stride, int64_t pad, int64_t dilation) {
    return (n + 2 * pad - dilation * (k - 1) - 1) / stride + 1;
  };
  const int64_t h = out(x.dim(2), w.dim(2), how.stride.h, how.pad.h, how.dilation.h);
  const int64_t wide = out(x.dim(3), w.dim(3), how.stride.w, how.pad.w, how.dilation.w);
  Tensor y = Tensor::empty({x.dim(0), w.dim(0), h, wide});
  for (int64_t i = 0; i < y.elements(); ++i) {
    const int64_t px = i % wide, py = i / wide % h, o = i / (wide * h) % w.dim(0), b = i / (wide * h * w.dim(0));
    double sum = bias.defined() ? bias.data()[o] : 0;
    for (int64_t k = 0; k < w.dim(1) * w.dim(2) * w.dim(3); ++k) {
      const int64_t kx = k % w.dim(3), ky = k / w.dim(3) % w.dim(2), c = k / (w.dim(3) * w.dim(2));
      const int64_t row = py * how.stride.h + ky * how.dilation.h - how.pad.h;
      const int64_t column = px * how.stride.w + kx * how.dilation.w - how.pad.w;
      if (row < 0 || row >= x.dim(2) || column < 0 || column >= x.dim(3)) continue;
      const int64_t channel = o / (w.dim(0) / how.groups) * w.dim(1) + c;
      sum += double{w.data()[o * w.dim(1) * w.dim(2) * w.dim(3) + k]} *
             x.data()[((b * x.dim(1) + channel) * x.dim(2) + row) * x.dim(3) + column];
    }
    y.data()[i] = static_cast<float>(sum);
  }
  return y;
}

TEST(Conv2d, AddsUpWhatItsWindowSees) {
  const Tensor x = Tensor::from({1, 1, 2, 3}, std::vector<float>{1, 2, 3, 4, 5, 6});
  const Tensor w = Tensor::from({1, 1, 2, 2}, std::vector<float>{1, 10, 100, 1000});
  const Tensor bias = Tensor::from({1}, std::vector<float>{0.5f});
  const Tensor y = conv2d(x, w, bias);
  ASSERT_EQ(y.shape(), Shape({1, 1, 1, 2}));
  EXPECT_EQ(y.data()[0], 1 + 20 + 400 + 5000 + 0.5f);
  EXPECT_EQ(y.data()[1], 2 + 30 + 500 + 6000 + 0.5f);
}

TEST(Conv2d, IsItsEquationAtEveryStepPadAndGroup) {
  for (const int64_t size : {1, 2, 3, 5}) {
    for (const int64_t groups : {1, 2, 6}) {
      for (const Conv2d& how : {Conv2d{}, Conv2d{.stride = 2, .pad = 1}, Conv2d{.stride = {1, 3}, .pad = {2, 0}},
                                Conv2d{.pad = 2, .dilation = {1, 2}}, Conv2d{.pad = 4}}) {
        Conv2d grouped = how;
        grouped.groups = groups;
        const Tensor x = random_tensor({3, 6, 7, 9}, 1), bias = random_tensor({12}, 3);
        const Tensor w = random_tensor({12, 6 / groups, std::min<int64_t>(size, 4), size}, 2);
        const Tensor y = conv2d(x, w, bias, grouped), twin = plain(x, w, bias, grouped);
        ASSERT_EQ(y.shape(), twin.shape());
        for (int64_t i = 0; i < y.elements(); ++i) ASSERT_NEAR(y.data()[i], twin.data()[i], 3e-5) << i;
      }
    }
  }
}

// Places in whole groups, which are multiplied without a matrix.
constexpr int64_t kWholeGroups[][2] = {{4, 8}, {8, 8}, {2, 16}, {4, 24}, {3, 32}};

TEST(Conv2d, IsItsEquationWherePlacesComeInGroups) {
  for (const auto& [height, width] : kWholeGroups) {
    for (const int64_t size : {1, 3, 5}) {
      for (const int64_t groups : {1, 2}) {
        for (const int64_t outputs : {2, 10, 14}) {
          const Conv2d how{.pad = size - 1, .dilation = 2, .groups = groups};
          const Tensor x = random_tensor({3, 6, height, width}, 1), bias = random_tensor({outputs}, 3);
          const Tensor w = random_tensor({outputs, 6 / groups, size, size}, 2);
          for (const Tensor& with : {bias, Tensor()}) {
            const Tensor y = conv2d(x, w, with, how), twin = plain(x, w, with, how);
            ASSERT_EQ(y.shape(), twin.shape());
            for (int64_t i = 0; i < y.elements(); ++i) ASSERT_NEAR(y.data()[i], twin.data()[i], 3e-5) << i;
          }
        }
      }
    }
  }
}

TEST(Conv2d, GradientsMeetFiniteDifferencesWherePlacesComeInGroups) {
  for (const size_t i : {0, 2, 3}) {
    const auto& [height, width] = kWholeGroups[i];
    const Tensor x = random_tensor({2, 2, height, width}, 1), w = random_tensor({4, 2, 3, 3}, 2);
    const Tensor bias = random_tensor({4}, 3), grouped = random_tensor({2, 1, 3, 1}, 4);
    const Tensor one = random_tensor({3, 2, 1, 1}, 5);
    expect_gradients({x, w, bias}, [&] { return conv2d(x, w, bias, {.pad = 1}); });
    expect_gradients({x, grouped}, [&] { return conv2d(x, grouped, {}, {.pad = {1, 0}, .groups = 2}); });
    expect_gradients({x, one}, [&] { return conv2d(x, one, {}); });
  }
}

TEST(Conv2d, GradientsMeetFiniteDifferences) {
  const Tensor x = random_tensor({2, 4, 3, 4}, 1), w = random_tensor({2, 4, 2, 3}, 2), bias = random_tensor({2}, 3);
  expect_gradients({x, w, bias}, [&] { return conv2d(x, w, bias, {.stride = {1, 2}, .pad = 1}); });
  const Tensor grouped = random_tensor({4, 2, 2, 2}, 4), one = random_tensor({3, 4, 1, 1}, 5);
  expect_gradients({x, grouped}, [&] { return conv2d(x, grouped, {}, {.dilation = {1, 2}, .groups = 2}); });
  expect_gradients({x, one}, [&] { return conv2d(x, one, {}); });
}

TEST(Conv2d, IsWhatPyTorchGives) {
  expect_op_golden("conv2d", [](Inputs in) { return conv2d(in[0], in[1], in[2], {.stride = 2, .pad = 1}); });
  expect_op_golden("conv2d_groups", [](Inputs in) {
    return conv2d(in[0], in[1], {}, {.stride = {1, 2}, .pad = {1, 0}, .dilation = {2, 1}, .groups = 2});
  });
  expect_op_golden("conv2d_depthwise", [](Inputs in) { return conv2d(in[0], in[1], in[2], {.pad = 1, .groups = 6}); });
  expect_op_golden("conv2d_1x1", [](Inputs in) { return conv2d(in[0], in[1], in[2]); });
}

// Few images share the threads, many go beside each other.
TEST(Conv2d, HasTheSameBitsOnAnyThreads) {
  const Tensor w = random_tensor({12, 8, 3, 3}, 2), bias = random_tensor({12}, 3);
  for (const int64_t batch : {1, 3, 11}) {
    const Tensor x = random_tensor({batch, 8, 33, 31}, 1);
    expect_same_bits_on_any_threads({x, w, bias}, [&] { return conv2d(x, w, bias, {.pad = 1}); });
    const Tensor whole = random_tensor({batch, 8, 24, 32}, 1);
    expect_same_bits_on_any_threads({whole, w, bias}, [&] { return conv2d(whole, w, bias, {.pad = 1}); });
  }
}

TEST(Conv2d, RefusesSizesThatDoNotMeet) {
  EXPECT_THROW(conv2d(Tensor::zeros({1, 3, 4, 4}), Tensor::zeros({2, 4, 3, 3}), {}), CheckFailed);
  EXPECT_THROW(conv2d(Tensor::zeros({1, 4, 2, 2}), Tensor::zeros({2, 4, 3, 3}), {}), CheckFailed);
  EXPECT_THROW(conv2d(Tensor::zeros({1, 4, 4, 4}), Tensor::zeros({3, 2, 3, 3}), {}, {.groups = 2}), CheckFailed);
  EXPECT_THROW(conv2d(Tensor::zeros({1, 4, 4, 4}), Tensor::zeros({2, 4, 3, 3}), Tensor::zeros({3})), CheckFailed);
  EXPECT_THROW(conv2d(Tensor::zeros({1, 4, 4, 4}), Tensor::zeros({2, 4, 3, 3}), {}, {.stride = 0}), CheckFailed);
}

}  // namespace conv2d_test
}  // namespace fovea::tensor
