#include "fovea/kernels/gradients.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "fovea/base/random.h"

namespace fovea::kernels {
namespace gradients_test {

constexpr size_t kMost = 41;

class Gradients : public ::testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    if (!machine_has(GetParam())) GTEST_SKIP() << "this machine lacks " << name_of(GetParam());
    before_ = active_isa();
    set_isa(GetParam());
    ASSERT_EQ(silu_backward.used(), GetParam());
    Rng rng(1);
    for (std::vector<float>* x : {&a_, &b_, &dy_, &held_}) {
      x->resize(kMost + 1);
      for (float& v : *x) v = static_cast<float>(3 * rng.normal());
    }
  }
  void TearDown() override { set_isa(before_); }

  // At every length, at an odd address, written and added to: body(n, add, out) against want(i), and one float past
  // the end untouched. 2e-6 of 1 + |want|: a polynomial of e^x and some ten roundings.
  template <typename Body, typename Want>
  void expect(const Body& body, const Want& want, double tolerance = 2e-6) const {
    for (size_t n = 0; n <= kMost - 1; ++n) {
      for (const bool add : {false, true}) {
        std::vector<float> out = held_;
        body(static_cast<int64_t>(n), add, out.data() + 1);
        for (size_t i = 0; i < n; ++i) {
          const double w = want(n, i) + (add ? double{held_[i + 1]} : 0.0);
          ASSERT_NEAR(out[i + 1], w, tolerance * (1 + std::abs(want(n, i)) + std::abs(w))) << n << " at " << i;
        }
        ASSERT_EQ(out[n + 1 <= kMost ? n + 1 : kMost], held_[n + 1 <= kMost ? n + 1 : kMost]);
      }
    }
  }
  static double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
  static double slope(double x) { return sigmoid(x) * (1 + x * (1 - sigmoid(x))); }

  std::vector<float> a_, b_, dy_, held_;

 private:
  Isa before_ = active_isa();
};

TEST_P(Gradients, OfSilu) {
  expect([&](int64_t n, bool add, float* out) { silu_backward(a_.data() + 1, dy_.data() + 1, n, add, out); },
         [&](size_t, size_t i) { return slope(a_[i + 1]) * dy_[i + 1]; });
}

TEST_P(Gradients, OfGelu) {
  for (const bool by_tanh : {false, true}) {
    const auto gelu = [by_tanh](double x) {
      if (!by_tanh) return x / 2 * (1 + std::erf(x / std::sqrt(2.0)));
      return x / 2 * (1 + std::tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));
    };
    expect([&](int64_t n, bool add, float* out) { gelu_backward(a_.data() + 1, dy_.data() + 1, n, by_tanh, add, out); },
           [&](size_t, size_t i) { return (gelu(a_[i + 1] + 1e-4) - gelu(a_[i + 1] - 1e-4)) / 2e-4 * dy_[i + 1]; },
           3e-6);
    const float far[] = {1e4f, -1e4f}, one[] = {1, 1};
    float out[2];
    gelu_backward(far, one, 2, by_tanh, false, out);
    EXPECT_EQ(out[0], 1.0f);
    EXPECT_NEAR(out[1], 0.0f, 1e-6);
  }
}

TEST_P(Gradients, OfSwiglu) {
  const auto args = [&](float* dgate, float* dup, bool add) {
    return SwigluBackward{a_.data() + 1, b_.data() + 1, dy_.data() + 1, dgate, dup, add, add};
  };
  expect([&](int64_t n, bool add, float* out) { swiglu_backward(args(out, nullptr, add), 0, n); },
         [&](size_t, size_t i) { return slope(a_[i + 1]) * b_[i + 1] * dy_[i + 1]; }, 5e-6);
  expect([&](int64_t n, bool add, float* out) { swiglu_backward(args(nullptr, out, add), 0, n); },
         [&](size_t, size_t i) { return a_[i + 1] * sigmoid(a_[i + 1]) * dy_[i + 1]; });
}

TEST_P(Gradients, OfExpAndItsSum) {
  expect([&](int64_t n, bool add, float* out) { exp_scaled(a_.data() + 1, n, 2.0f, 0.5f, add, out); },
         [&](size_t, size_t i) { return 0.5 * std::exp(double{a_[i + 1]} - 2); });
  for (size_t n = 1; n < kMost; ++n) {
    float top = 0;
    const float sum = exp_sum(a_.data() + 1, static_cast<int64_t>(n), &top);
    double want = 0;
    for (size_t i = 0; i < n; ++i) want += std::exp(double{a_[i + 1]} - top);
    EXPECT_EQ(top, *std::max_element(a_.begin() + 1, a_.begin() + 1 + static_cast<std::ptrdiff_t>(n)));
    EXPECT_NEAR(sum, want, 2e-6 * want) << n;
  }
}

TEST_P(Gradients, OfTheNorm) {
  for (const bool weighted : {false, true}) {
    const float scale = 1.7f;
    const auto g = [&](size_t i) { return double{dy_[i + 1]} * (weighted ? b_[i + 1] : 1.0f); };
    expect(
        [&](int64_t n, bool add, float* out) {
          rms_norm_backward(a_.data() + 1, weighted ? b_.data() + 1 : nullptr, dy_.data() + 1, scale, n, add, out);
        },
        [&](size_t n, size_t i) {
          double mean = 0;
          for (size_t j = 0; j < n; ++j) mean += g(j) * a_[j + 1] / static_cast<double>(n);
          return g(i) / scale - a_[i + 1] * mean / std::pow(double{scale}, 3);
        },
        1e-5);
  }
}

TEST_P(Gradients, OfLayerNorm) {
  for (const bool weighted : {false, true}) {
    const auto g = [&](size_t i) { return double{dy_[i + 1]} * (weighted ? b_[i + 1] : 1.0f); };
    expect(
        [&](int64_t n, bool add, float* out) {
          layer_norm_backward(a_.data() + 1, weighted ? b_.data() + 1 : nullptr, dy_.data() + 1, 0.6f, n, add, out);
        },
        [&](size_t n, size_t i) {
          double mean = 0, pull = 0;
          for (size_t j = 0; j < n; ++j) {
            mean += g(j) / static_cast<double>(n), pull += g(j) * a_[j + 1] / static_cast<double>(n);
          }
          return (g(i) - mean - a_[i + 1] * pull) * 0.6f;
        },
        1e-5);
  }
}

TEST_P(Gradients, AProductIsAdded) {
  for (size_t n = 0; n < kMost; ++n) {
    std::vector<float> out = held_;
    add_product(a_.data() + 1, b_.data() + 1, static_cast<int64_t>(n), out.data() + 1);
    for (size_t i = 0; i < n; ++i) EXPECT_NEAR(out[i + 1], double{held_[i + 1]} + double{a_[i + 1]} * b_[i + 1], 1e-5);
    EXPECT_EQ(out[n + 1], held_[n + 1]);
  }
}

INSTANTIATE_TEST_SUITE_P(EveryIsa, Gradients, ::testing::Values(Isa::kPortable, Isa::kAvx2, Isa::kAvx512),
                         [](const auto& test) { return std::string(name_of(test.param)); });

}  // namespace gradients_test
}  // namespace fovea::kernels
