#include "fovea/tensor/ops/image/unfold.h"

#include <gtest/gtest.h>

#include "fovea/base/check.h"
#include "fovea/tensor/testing/golden_tensors.h"
#include "fovea/tensor/testing/gradient_check.h"
#include "fovea/tensor/testing/thread_check.h"
#include "fovea/tensor/testing/twin.h"

namespace fovea::tensor {
namespace unfold_test {

using Inputs = const std::vector<Tensor>&;

TEST(Unfold, ShowsEveryWindow) {
  const Tensor x = Tensor::from({1, 1, 2, 3}, std::vector<float>{1, 2, 3, 4, 5, 6});
  const Tensor y = unfold(x, {.size = 2, .pad = {0, 1}});
  ASSERT_EQ(y.shape(), Shape({1, 4, 4}));
  const std::vector<float> expected = {0, 1, 2, 3, 1, 2, 3, 0, 0, 4, 5, 6, 4, 5, 6, 0};
  EXPECT_EQ(std::vector<float>(y.values().begin(), y.values().end()), expected);
}

TEST(Fold, CountsAPixelAsOftenAsWindowsSeeIt) {
  Tensor x = Tensor::empty({1, 2, 3, 4});
  std::fill_n(x.data(), x.elements(), 1.0f);
  const Window window{.size = 2};
  const Tensor y = fold(unfold(x, window), {3, 4}, window);
  const std::vector<float> counts = {1, 2, 2, 1, 2, 4, 4, 2, 1, 2, 2, 1};
  for (int64_t i = 0; i < y.elements(); ++i) EXPECT_EQ(y.data()[i], counts[static_cast<size_t>(i % 12)]) << i;
}

// Both at every window: row r of a column is (channel, i, j), and a pixel is the sum of what windows see of it.
TEST(Unfold, AndFoldAreTheirEquationsAtOddSizes) {
  for (const Window& w : {Window{.size = {1, 3}}, Window{.size = {3, 2}, .stride = {2, 1}, .pad = {0, 2}},
                          Window{.size = 2, .stride = 3, .pad = 1, .dilation = {2, 1}}}) {
    const Tensor x = random_tensor({2, 3, 7, 5}, 1), y = unfold(x, w);
    const int64_t area = w.size.h * w.size.w;
    const int64_t out_w = (5 + 2 * w.pad.w - w.dilation.w * (w.size.w - 1) - 1) / w.stride.w + 1;
    const int64_t out_h = (7 + 2 * w.pad.h - w.dilation.h * (w.size.h - 1) - 1) / w.stride.h + 1;
    const auto line = [&](int64_t p, int64_t k) { return p * w.stride.h + k * w.dilation.h - w.pad.h; };
    const auto column = [&](int64_t p, int64_t k) { return p * w.stride.w + k * w.dilation.w - w.pad.w; };
    expect_is(y, {2, 3 * area, out_h * out_w}, [&](int64_t i) {
      const int64_t p = i % (out_h * out_w), r = i / (out_h * out_w) % (3 * area), b = i / (out_h * out_w * 3 * area);
      return at4(x, b, r / area, line(p / out_w, r % area / w.size.w), column(p % out_w, r % w.size.w));
    });
    const Tensor back = fold(y, {7, 5}, w);
    expect_is(back, x.shape(), [&](int64_t i) {
      double sum = 0;
      for (int64_t p = 0; p < out_h * out_w; ++p) {
        for (int64_t k = 0; k < area; ++k) {
          if (line(p / out_w, k / w.size.w) != i / 5 % 7 || column(p % out_w, k % w.size.w) != i % 5) continue;
          sum += y.data()[((i / 105 * 3 + i / 35 % 3) * area + k) * out_h * out_w + p];
        }
      }
      return sum;
    });
  }
}

TEST(Unfold, GradientsMeetFiniteDifferences) {
  const Window window{.size = {3, 2}, .stride = {2, 1}, .pad = 1, .dilation = {1, 2}};
  const Tensor x = random_tensor({2, 2, 5, 4}, 1);
  expect_gradients({x}, [&] { return unfold(x, window); });
  const Tensor columns = random_tensor(unfold(x, window).shape(), 2);
  expect_gradients({columns}, [&] { return fold(columns, {5, 4}, window); });
}

TEST(Unfold, IsWhatPyTorchGives) {
  const Window window{.size = {3, 2}, .stride = 2, .pad = 1};
  expect_op_golden("unfold", [&](Inputs in) { return unfold(in[0], window); });
  expect_op_golden("fold", [&](Inputs in) { return fold(in[0], {9, 7}, window); });
}

TEST(Unfold, HasTheSameBitsOnAnyThreads) {
  const Tensor x = random_tensor({3, 4, 41, 43}, 1);
  const Window window{.size = 3, .stride = 2, .pad = 1};
  expect_same_bits_on_any_threads({x}, [&] { return fold(unfold(x, window), {41, 43}, window); });
}

TEST(Unfold, RefusesSizesThatDoNotMeet) {
  EXPECT_THROW(unfold(Tensor::zeros({1, 1, 2, 2}), {.size = 3}), CheckFailed);
  EXPECT_THROW(fold(Tensor::zeros({1, 4, 3}), {2, 2}, {.size = 2}), CheckFailed);
  EXPECT_THROW(fold(Tensor::zeros({1, 3, 1}), {2, 2}, {.size = 2}), CheckFailed);
}

}  // namespace unfold_test
}  // namespace fovea::tensor
