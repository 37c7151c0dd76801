#include "fovea/kernels/group_norm.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "fovea/base/random.h"

namespace fovea::kernels {
namespace group_norm_kernel_test {

// Around lanes, and longer than a run of float sums.
const std::vector<int64_t> kLengths = {1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 63, 65, 511, 512, 530, 1100};

class GroupNormKernels : public ::testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    if (!machine_has(GetParam())) GTEST_SKIP() << "this machine lacks " << name_of(GetParam());
    before_ = active_isa();
    set_isa(GetParam());
    ASSERT_EQ(moment_sums.used(), GetParam());
    Rng rng(1);
    for (std::vector<float>* x : {&x_, &dy_, &held_}) {
      x->resize(1102);
      for (float& v : *x) v = static_cast<float>(2 + 3 * rng.normal());
    }
  }
  void TearDown() override { set_isa(before_); }

  // At an odd address: out[i + 1] is want(i), and one float past the end is untouched.
  template <typename Body, typename Want>
  void expect(const Body& body, const Want& want) const {
    for (const int64_t n : kLengths) {
      std::vector<float> out = held_;
      body(n, out.data() + 1);
      for (size_t i = 0; i < static_cast<size_t>(n); ++i)
        ASSERT_NEAR(out[i + 1], want(i), 3e-6 * (1 + std::abs(want(i)))) << n << " at " << i;
      ASSERT_EQ(out[static_cast<size_t>(n) + 1], held_[static_cast<size_t>(n) + 1]);
    }
  }
  std::vector<float> x_, dy_, held_;

 private:
  Isa before_ = active_isa();
};

// Some 4 ulp of the sum of magnitudes: sixteen float additions a lane, the rest in double.
TEST_P(GroupNormKernels, SumUp) {
  for (const int64_t n : kLengths) {
    double sum = 0, all = 0, squares = 0, slopes = 0, dots = 0, sizes = 0;
    for (size_t i = 1; i <= static_cast<size_t>(n); ++i) sum += x_[i], all += std::abs(x_[i]);
    const double mean = sum / static_cast<double>(n);
    for (size_t i = 1; i <= static_cast<size_t>(n); ++i) {
      squares += (x_[i] - mean) * (x_[i] - mean), slopes += dy_[i];
      dots += dy_[i] * (x_[i] - 1.5), sizes += std::abs(dy_[i] * (x_[i] - 1.5)) + std::abs(dy_[i]);
    }
    NormSums moments, back;
    moment_sums(x_.data() + 1, n, moments);
    slope_sums(x_.data() + 1, dy_.data() + 1, 1.5f, n, back);
    EXPECT_NEAR(moments.first, sum, 5e-7 * all) << n;
    EXPECT_NEAR(moments.second, squares, 1e-6 * (squares + all)) << n;
    EXPECT_NEAR(back.first, slopes, 5e-7 * sizes) << n;
    EXPECT_NEAR(back.second, dots, 5e-7 * sizes) << n;
  }
}

TEST_P(GroupNormKernels, MoveAndScale) {
  expect([&](int64_t n, float* y) { move_scale(x_.data() + 1, 2.0f, 0.7f, -0.3f, n, y); },
         [&](size_t i) { return (double{x_[i + 1]} - 2) * 0.7f - 0.3f; });
}

TEST_P(GroupNormKernels, GoBack) {
  const NormSlope slope{.mean = 2.0f, .factor = 0.7f, .pull = 0.2f, .shift = 0.4f};
  for (const bool add : {false, true}) {
    expect([&](int64_t n, float* dx) { norm_backward(x_.data() + 1, dy_.data() + 1, slope, n, add, dx); },
           [&](size_t i) {
             return double{dy_[i + 1]} * 0.7f - (double{x_[i + 1]} - 2) * 0.2f - 0.4f +
                    (add ? double{held_[i + 1]} : 0);
           });
  }
}

INSTANTIATE_TEST_SUITE_P(EveryIsa, GroupNormKernels, ::testing::Values(Isa::kPortable, Isa::kAvx2, Isa::kAvx512),
                         [](const auto& test) { return std::string(name_of(test.param)); });

}  // namespace group_norm_kernel_test
}  // namespace fovea::kernels
