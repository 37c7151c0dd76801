#include "fovea/kernels/vector.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "fovea/base/random.h"

namespace fovea::kernels {
namespace vector_test {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// Runs `body` on every instruction set of this machine.
void on_every_isa(const std::function<void()>& body) {
  const Isa before = active_isa();
  for (int i = 0; i < kIsas; ++i) {
    if (!machine_has(static_cast<Isa>(i))) continue;
    set_isa(static_cast<Isa>(i));
    SCOPED_TRACE(std::string(name_of(static_cast<Isa>(i))));
    body();
  }
  set_isa(before);
}

// n floats that start `offset` floats past an aligned address, with a guard behind the end.
class Floats {
 public:
  Floats(int64_t n, int offset) : offset_(static_cast<size_t>(offset)), data_(static_cast<size_t>(n) + offset_ + 1) {
    data_.back() = kGuard;
  }
  static Floats random(int64_t n, int offset, Rng& rng) {
    Floats x(n, offset);
    for (int64_t i = 0; i < n; ++i) x[i] = static_cast<float>(2 * rng.normal());
    return x;
  }
  float* data() { return data_.data() + offset_; }
  float& operator[](int64_t i) { return data_[static_cast<size_t>(i) + offset_]; }
  bool guard_is_whole() const { return data_.back() == kGuard; }

 private:
  static constexpr float kGuard = 12345.0f;
  size_t offset_;
  std::vector<float> data_;
};

// Every length around the lane counts, at four alignments.
void at_every_length(const std::function<void(int64_t n, int offset, Rng& rng)>& body) {
  on_every_isa([&] {
    Rng rng(7);
    for (int64_t n = 0; n <= 70; ++n) {
      SCOPED_TRACE(n);
      for (int offset = 0; offset < 4; ++offset) body(n, offset, rng);
    }
  });
}

double silu_twin(double x) { return x / (1 + std::exp(-x)); }

TEST(Vector, UsesTheInstructionSetThatWasChosen) {
  on_every_isa([] { EXPECT_EQ(softmax.used(), active_isa()); });
}

TEST(Vector, ElementwiseLoopsAgreeWithDoubles) {
  at_every_length([](int64_t n, int offset, Rng& rng) {
    Floats a = Floats::random(n, offset, rng), b = Floats::random(n, (offset + 1) % 4, rng), y(n, offset);
    const auto check = [&](double (*twin)(double, double), double tolerance) {
      for (int64_t i = 0; i < n; ++i) {
        const double want = twin(a[i], b[i]);
        ASSERT_NEAR(y[i], want, tolerance * std::abs(want)) << i;
      }
      ASSERT_TRUE(y.guard_is_whole());
    };
    add(a.data(), b.data(), n, y.data());
    check([](double u, double v) { return double{static_cast<float>(u + v)}; }, 0);
    mul(a.data(), b.data(), n, y.data());
    check([](double u, double v) { return u * v; }, 6e-8);
    scale(n, 0.7f, a.data(), y.data());
    check([](double u, double) { return double{0.7f} * u; }, 6e-8);
    exp_all(a.data(), n, y.data());
    check([](double u, double) { return std::exp(u); }, 1.5e-7);
    silu(a.data(), n, y.data());
    check([](double u, double) { return silu_twin(u); }, 4e-7);
    swiglu(a.data(), b.data(), n, y.data());
    check([](double u, double v) { return silu_twin(u) * v; }, 4e-7);
    Floats sum = b;
    axpy(n, -1.5f, a.data(), sum.data());
    for (int64_t i = 0; i < n; ++i) ASSERT_NEAR(sum[i], double{b[i]} - 1.5 * a[i], 1e-6) << i;
    ASSERT_TRUE(sum.guard_is_whole());
  });
}

TEST(Vector, NormDividesByTheRootOfTheMeanSquare) {
  at_every_length([](int64_t n, int offset, Rng& rng) {
    Floats x = Floats::random(n, offset, rng), w = Floats::random(n, 3 - offset, rng), y(n, offset);
    double squares = 0;
    for (int64_t i = 0; i < n; ++i) squares += double{x[i]} * x[i];
    const double root = std::sqrt(squares / static_cast<double>(n) + 1e-5);
    if (n > 0) {
      ASSERT_NEAR(rms_inv_scale(x.data(), 1e-5f, n), root, 4e-7 * root);
    }
    rms_norm(x.data(), nullptr, 1e-5f, n, y.data());
    for (int64_t i = 0; i < n; ++i) ASSERT_NEAR(y[i], x[i] / root, 6e-7 * std::abs(x[i] / root));
    rms_norm(x.data(), w.data(), 1e-5f, n, y.data());
    for (int64_t i = 0; i < n; ++i) ASSERT_NEAR(y[i], x[i] / root * w[i], 6e-7 * std::abs(x[i] / root * w[i]));
    ASSERT_TRUE(y.guard_is_whole());
  });
}

TEST(Vector, CountsTheBitsOfWords) {
  at_every_length([](int64_t n, int, Rng& rng) {
    std::vector<uint32_t> words(static_cast<size_t>(n));
    uint64_t count = 0;
    for (uint32_t& word : words) {
      word = static_cast<uint32_t>(rng.below(uint64_t{1} << 32));
      for (int bit = 0; bit < 32; ++bit) count += word >> bit & 1;
    }
    ASSERT_EQ(count_bits(words.data(), n), count);
  });
}

TEST(Vector, ReductionsAgreeWithDoubles) {
  at_every_length([](int64_t n, int offset, Rng& rng) {
    Floats a = Floats::random(n, offset, rng), b = Floats::random(n, 3 - offset, rng), y(n, offset);
    double product = 0, size = 0, total = 0, top = -kInf;
    int64_t best = 0;
    for (int64_t i = 0; i < n; ++i) {
      product += double{a[i]} * b[i];
      size += std::abs(double{a[i]} * b[i]);
      if (a[i] > top) best = i;
      top = std::max(top, double{a[i]});
    }
    for (int64_t i = 0; i < n; ++i) total += std::exp(a[i] - top);
    ASSERT_NEAR(dot(a.data(), b.data(), n), product, 1e-6 * size);
    ASSERT_EQ(argmax(a.data(), n), best);
    softmax(a.data(), n, y.data());
    for (int64_t i = 0; i < n; ++i) {
      const double want = std::exp(a[i] - top) / total;
      ASSERT_NEAR(y[i], want, 1e-6 * want) << i;
    }
    ASSERT_TRUE(y.guard_is_whole());
    if (n == 0) {
      ASSERT_EQ(log_sum_exp(a.data(), n), -kInf);
    } else {
      ASSERT_NEAR(log_sum_exp(a.data(), n), top + std::log(total), 2e-6);
    }
  });
}

TEST(Vector, ExponentialHoldsItsErrorOverTheWholeRange) {
  on_every_isa([] {
    double worst = 0;
    std::vector<float> x, y;
    for (double at = -87.33; at < 88.72; at += 0.0007) x.push_back(static_cast<float>(at));
    y.resize(x.size());
    exp_all(x.data(), static_cast<int64_t>(x.size()), y.data());
    for (size_t i = 0; i < x.size(); ++i) {
      const double want = std::exp(double{x[i]});
      worst = std::max(worst, std::abs(y[i] - want) / want);
    }
    EXPECT_LT(worst, 1.5e-7);
  });
}

TEST(Vector, ExponentialOfTheExtremes) {
  on_every_isa([] {
    const std::vector<float> x = {0.0f, -0.0f, 100.0f, 88.8f, 1e30f, kInf, -100.0f, -87.4f, -1e30f, -kInf, kNan, -kNan};
    const std::vector<float> want = {1, 1, kInf, kInf, kInf, kInf, 0, 0, 0, 0};
    std::vector<float> y(x.size());
    exp_all(x.data(), static_cast<int64_t>(x.size()), y.data());
    for (size_t i = 0; i < want.size(); ++i) EXPECT_EQ(y[i], want[i]) << x[i];
    EXPECT_TRUE(std::isnan(y[10]));
    EXPECT_TRUE(std::isnan(y[11]));
  });
}

TEST(Vector, GatesOfTheExtremes) {
  on_every_isa([] {
    const std::vector<float> x = {100.0f, -100.0f, kInf, 0.0f, kNan};
    std::vector<float> y(x.size());
    silu(x.data(), static_cast<int64_t>(x.size()), y.data());
    EXPECT_EQ(y[0], 100.0f);
    EXPECT_EQ(y[1], 0.0f);
    EXPECT_EQ(y[2], kInf);
    EXPECT_EQ(y[3], 0.0f);
    EXPECT_TRUE(std::isnan(y[4]));
  });
}

TEST(Vector, SoftmaxOfNothingVisibleIsZero) {
  on_every_isa([] {
    for (size_t n : {1u, 7u, 33u}) {
      std::vector<float> x(n, -kInf), y(n, 5.0f);
      softmax(x.data(), static_cast<int64_t>(n), y.data());
      EXPECT_THAT(y, testing::Each(0.0f));
      EXPECT_EQ(log_sum_exp(x.data(), static_cast<int64_t>(n)), -kInf);
    }
  });
}

TEST(Vector, SoftmaxLeavesOutMinusInfinityAndSurvivesLargeScores) {
  on_every_isa([] {
    std::vector<float> x(20, -kInf);
    x[3] = x[18] = 3e38f;
    softmax(x.data(), 20, x.data());
    for (size_t i = 0; i < x.size(); ++i) EXPECT_EQ(x[i], i == 3 || i == 18 ? 0.5f : 0.0f);
  });
}

TEST(Vector, SoftmaxShowsANan) {
  on_every_isa([] {
    for (size_t at : {0u, 5u, 16u, 18u}) {
      std::vector<float> x(19, 1.0f);
      x[at] = kNan;
      softmax(x.data(), 19, x.data());
      EXPECT_TRUE(std::isnan(x[2])) << at;
    }
  });
}

TEST(Vector, LogSumExpOfInfinityIsInfinity) {
  on_every_isa([] {
    const std::vector<float> x = {1.0f, kInf, 2.0f};
    EXPECT_EQ(log_sum_exp(x.data(), 3), kInf);
  });
}

TEST(Vector, ArgmaxTakesTheFirstOfEqualsAndNeverNan) {
  on_every_isa([] {
    std::vector<float> x(40, 1.0f);
    x[0] = kNan;
    x[21] = x[38] = 2.0f;
    x[39] = kNan;
    EXPECT_EQ(argmax(x.data(), 40), 21);
    std::vector<float> nothing(20, -kInf);
    EXPECT_EQ(argmax(nothing.data(), 20), 0);
  });
}

TEST(Vector, RotationTurnsPairsNextToEachOtherOrHalfAHeadApart) {
  at_every_length([](int64_t n, int offset, Rng& rng) {
    Floats x = Floats::random(2 * n, offset, rng), c(n, 1), s(n, 2), y(2 * n, offset);
    for (int64_t i = 0; i < n; ++i) {
      c[i] = static_cast<float>(std::cos(0.3 * static_cast<double>(i)));
      s[i] = static_cast<float>(std::sin(0.3 * static_cast<double>(i)));
    }
    for (bool adjacent : {false, true}) {
      rope_rotate(x.data(), c.data(), s.data(), n, adjacent, y.data());
      for (int64_t i = 0; i < n; ++i) {
        const int64_t a = adjacent ? 2 * i : i, b = adjacent ? 2 * i + 1 : i + n;
        ASSERT_NEAR(y[a], double{x[a]} * c[i] - double{x[b]} * s[i], 1e-6) << i;
        ASSERT_NEAR(y[b], double{x[a]} * s[i] + double{x[b]} * c[i], 1e-6) << i;
      }
      ASSERT_TRUE(y.guard_is_whole());
      Floats in_place = x;
      rope_rotate(in_place.data(), c.data(), s.data(), n, adjacent, in_place.data());
      for (int64_t i = 0; i < 2 * n; ++i) ASSERT_EQ(in_place[i], y[i]) << i;
    }
  });
}

TEST(Vector, OutputMayBeTheInput) {
  at_every_length([](int64_t n, int offset, Rng& rng) {
    Floats x = Floats::random(n, offset, rng), y(n, offset);
    rms_norm(x.data(), nullptr, 1e-5f, n, y.data());
    silu(y.data(), n, y.data());
    softmax(y.data(), n, y.data());
    Floats in_place = x, z(n, offset);
    rms_norm(in_place.data(), nullptr, 1e-5f, n, in_place.data());
    silu(in_place.data(), n, z.data());
    softmax(z.data(), n, in_place.data());
    for (int64_t i = 0; i < n; ++i) ASSERT_EQ(in_place[i], y[i]) << i;
  });
}

}  // namespace vector_test
}  // namespace fovea::kernels
