#include "fovea/tensor/init.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "fovea/base/threads.h"

namespace fovea::tensor {
namespace init_test {

struct Moments {
  double mean = 0, deviation = 0, largest = 0;
};
Moments moments(const Tensor& t) {
  Moments m;
  for (const float x : t.values()) {
    m.mean += x / static_cast<double>(t.elements());
    m.deviation += static_cast<double>(x) * x;
    m.largest = std::max(m.largest, std::abs(static_cast<double>(x)));
  }
  m.deviation = std::sqrt(m.deviation / static_cast<double>(t.elements()) - m.mean * m.mean);
  return m;
}

// 150,000 draws: the mean lies within 5 / sqrt(150000) = 0.013 deviations, the deviation within 1.3 %.
void expect_spread(const Init& init, double deviation) {
  const Moments m = moments(draw(init, {300, 500}, 1, "w"));
  EXPECT_LT(std::abs(m.mean), 0.013 * deviation);
  EXPECT_NEAR(m.deviation, deviation, 0.013 * deviation);
}

TEST(Init, HasTheDeviationThatItsNameSays) {
  expect_spread(Init::normal(0.02f), 0.02);
  expect_spread(Init::uniform(0.3f), 0.3 / std::sqrt(3.0));
  expect_spread(Init::xavier_normal(), std::sqrt(2.0 / 800));  // rows make fan_out, columns fan_in
  expect_spread(Init::xavier_uniform(2), 2 * std::sqrt(2.0 / 800));
  expect_spread(Init::kaiming_normal(), std::sqrt(2.0 / 500));
  expect_spread(Init::kaiming_uniform(1), 1 / std::sqrt(500.0));
}

TEST(Init, AUniformDrawStaysInItsBound) {
  EXPECT_LE(moments(draw(Init::uniform(0.3f), {300, 500}, 1, "w")).largest, 0.3f);
  EXPECT_LE(moments(draw(Init::kaiming_uniform(), {300, 500}, 1, "w")).largest, std::sqrt(6.0 / 500) * (1 + 1e-7));
  EXPECT_GT(moments(draw(Init::normal(0.3f), {300, 500}, 1, "w")).largest, 0.9f);
}

TEST(Init, ConstantsAreConstant) {
  for (const auto& [init, value] : {std::pair{Init::zeros(), 0.0f}, {Init::ones(), 1.0f}, {Init::constant(3), 3.0f}}) {
    const Tensor t = draw(init, {7}, 1, "b");
    for (const float x : t.values()) EXPECT_EQ(x, value);
  }
}

TEST(Init, SeedAndNameMakeTheBitsAndThreadsDoNot) {
  const auto bits = [](uint64_t seed, const char* name) {
    const Tensor t = draw(Init::normal(1), {256, 300}, seed, name);
    return std::vector<float>(t.values().begin(), t.values().end());
  };
  const auto one = bits(1, "w");
  EXPECT_NE(one, bits(2, "w"));
  EXPECT_NE(one, bits(1, "v"));
  const int before = pool().size();
  for (const int threads : {1, 3}) {
    set_threads(threads);
    EXPECT_EQ(bits(1, "w"), one) << threads;
  }
  set_threads(before);
  EXPECT_FALSE(std::equal(one.begin(), one.begin() + 300, one.begin() + 300));  // rows differ
}

}  // namespace init_test
}  // namespace fovea::tensor
