#include "fovea/tensor/ops/image/resize.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "fovea/base/check.h"
#include "fovea/tensor/testing/golden_tensors.h"
#include "fovea/tensor/testing/gradient_check.h"
#include "fovea/tensor/testing/thread_check.h"
#include "fovea/tensor/testing/twin.h"

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

// Weight of pixel `at` of `from` in pixel i of `to`, all pixels beyond an edge counted for that at the edge.
double weight(int64_t i, int64_t at, int64_t from, int64_t to, const Resize& how) {
  const auto n = static_cast<double>(from), m = static_cast<double>(to), p = static_cast<double>(i);
  if (how.filter == Filter::kNearest) return at == static_cast<int64_t>(std::floor(p * n / m)) ? 1 : 0;
  const double a = how.antialias ? -0.5 : -0.75, wide = how.antialias ? std::max(1.0, n / m) : 1;
  const auto filter = [&](double x) {
    x = std::abs(x) / wide;
    if (how.filter == Filter::kLinear) return std::max(0.0, 1 - x);
    if (x < 1) return (a + 2) * x * x * x - (a + 3) * x * x + 1;
    return x < 2 ? a * (x * x * x - 5 * x * x + 8 * x - 4) : 0.0;
  };
  const double centre = how.align_corners ? p * (n - 1) / (m - 1) : (p + 0.5) * n / m - 0.5;
  double sum = 0, mine = 0;
  for (int64_t k = how.antialias ? 0 : -3; k < (how.antialias ? from : from + 3); ++k) {
    const double w = filter(static_cast<double>(k) - centre);
    sum += w;
    if (std::clamp<int64_t>(k, 0, from - 1) == at) mine += w;
  }
  return mine / sum;
}

TEST(Resize, IsItsEquationAtOddSizes) {
  const Tensor x = random_tensor({2, 2, 7, 5}, 1);
  for (const Resize& how :
       {Resize{.filter = Filter::kNearest}, Resize{}, Resize{.align_corners = true}, Resize{.filter = Filter::kCubic},
        Resize{.antialias = true}, Resize{.filter = Filter::kCubic, .antialias = true}}) {
    for (const HeightWidth to : {HeightWidth(3, 11), HeightWidth(13, 2), HeightWidth(7, 4)}) {
      expect_is(resize(x, to, how), {2, 2, to.h, to.w}, [&](int64_t i) {
        double sum = 0;
        for (int64_t p = 0; p < 35; ++p)
          sum += weight(i / to.w % to.h, p / 5, 7, to.h, how) * weight(i % to.w, p % 5, 5, to.w, how) *
                 at4(x, i / (to.w * to.h * 2), i / (to.w * to.h) % 2, p / 5, p % 5);
        return sum;
      });
    }
  }
  for (const int64_t factor : {1, 3}) {
    expect_is(upsample(x, factor), {2, 2, 7 * factor, 5 * factor}, [&](int64_t i) {
      const int64_t wide = 5 * factor, plane = 35 * factor * factor;
      return at4(x, i / plane / 2, i / plane % 2, i % plane / wide / factor, i % wide / factor);
    });
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
