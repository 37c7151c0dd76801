#include "fovea/kernels/activations.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "fovea/base/random.h"
#include "fovea/kernels/vector.h"

namespace fovea::kernels {
namespace activations_test {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr Activation kAll[] = {Activation::kSilu, Activation::kGelu, Activation::kGeluTanh, Activation::kRelu,
                               Activation::kClampedSwiglu};

double twin(Activation act, double x) {
  switch (act) {
    case Activation::kSilu: return x / (1 + std::exp(-x));
    case Activation::kGelu: return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
    case Activation::kGeluTanh: return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case Activation::kRelu: return std::max(x, 0.0);
    case Activation::kClampedSwiglu: return std::min(x, 7.0) / (1 + std::exp(-1.702 * std::min(x, 7.0)));
  }
  return 0;
}

// Every length around the lane counts, at four alignments, on every instruction set; a guard behind the end.
void at_every_length(const std::function<void(std::vector<float>& x, std::vector<float>& y, int64_t n, int at)>& body) {
  const Isa before = active_isa();
  for (int i = 0; i < kIsas; ++i) {
    if (!machine_has(static_cast<Isa>(i))) continue;
    set_isa(static_cast<Isa>(i));
    SCOPED_TRACE(std::string(name_of(static_cast<Isa>(i))));
    ASSERT_EQ(activate.used(), active_isa());
    Rng rng(3);
    for (int64_t n = 1; n <= 70; ++n) {
      for (int at = 0; at < 4; ++at) {
        std::vector<float> x(static_cast<size_t>(n + at)), y(static_cast<size_t>(n + at + 1), 77.0f);
        for (float& v : x) v = static_cast<float>(3 * rng.normal());
        body(x, y, n, at);
        ASSERT_EQ(y.back(), 77.0f) << n;
      }
    }
  }
  set_isa(before);
}

TEST(Activations, AgreeWithDoubles) {
  at_every_length([](std::vector<float>& x, std::vector<float>& y, int64_t n, int at) {
    for (const Activation act : kAll) {
      activate(act, x.data() + at, n, y.data() + at);
      for (auto i = static_cast<size_t>(at); i < x.size(); ++i) {
        // Phi is a polynomial with an absolute error of 1.5e-7, the rest has relative ones.
        ASSERT_NEAR(y[i], twin(act, x[i]), 4e-7 * std::max(1.0f, std::abs(x[i]))) << static_cast<int>(act) << " " << n;
      }
      std::vector<float> gated = y;
      activate_gate(act, x.data() + at, y.data() + at, n, gated.data() + at);
      for (auto i = static_cast<size_t>(at); i < x.size(); ++i) {
        const float up = act == Activation::kClampedSwiglu ? std::clamp(y[i], -7.0f, 7.0f) + 1 : y[i];
        ASSERT_EQ(gated[i], y[i] * up) << n;
      }
    }
  });
}

TEST(Activations, CenterTakesTheMeanAway) {
  at_every_length([](std::vector<float>& x, std::vector<float>& y, int64_t n, int at) {
    double mean = 0;
    for (auto i = static_cast<size_t>(at); i < x.size(); ++i) mean += x[i] / static_cast<double>(n);
    center(x.data() + at, n, y.data() + at);
    for (auto i = static_cast<size_t>(at); i < x.size(); ++i) ASSERT_NEAR(y[i], x[i] - mean, 2e-6) << n;
  });
}

TEST(Activations, SiluHasTheBitsOfItsOwnKernel) {
  at_every_length([](std::vector<float>& x, std::vector<float>& y, int64_t n, int at) {
    std::vector<float> other = y;
    activate(Activation::kSilu, x.data() + at, n, y.data() + at);
    silu(x.data() + at, n, other.data() + at);
    ASSERT_EQ(y, other);
  });
}

TEST(Activations, LargeValuesStayWhatTheyAre) {
  for (const Activation act : kAll) {
    if (act == Activation::kClampedSwiglu) continue;  // it holds them at its limit
    const std::vector<float> x = {100.0f, -100.0f, kInf, 3e38f, std::nanf("")};
    std::vector<float> y(x.size());
    activate(act, x.data(), static_cast<int64_t>(x.size()), y.data());
    const bool clamps = act == Activation::kClampedSwiglu;
    const float most = static_cast<float>(twin(act, kInf));
    for (const size_t i : {size_t{0}, size_t{2}, size_t{3}}) {
      if (clamps) {
        EXPECT_NEAR(y[i], most, 1e-5);
      } else {
        EXPECT_EQ(y[i], x[i]);
      }
    }
    EXPECT_EQ(y[1], 0.0f);
    EXPECT_TRUE(std::isnan(y[4]));
    std::vector<float> gated(x.size());
    activate_gate(act, x.data(), x.data(), 5, gated.data());
    EXPECT_TRUE(std::isnan(gated[4]));
  }
}

}  // namespace activations_test
}  // namespace fovea::kernels
