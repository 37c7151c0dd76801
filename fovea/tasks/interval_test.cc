#include "fovea/tasks/interval.h"

#include <gtest/gtest.h>

#include <vector>

namespace fovea::tasks {
namespace interval_test {

// By hand: p = 0.8, n = 10, z = 1.959964: (0.8 + 0.19207 +- 1.959964 sqrt(0.016 + 0.0096036)) / 1.38415.
TEST(Wilson, IsTheFormulas) {
  const Interval some = wilson_interval(8, 10);
  EXPECT_NEAR(some.low, 0.4902, 1e-3);
  EXPECT_NEAR(some.high, 0.9433, 1e-3);
  const Interval all = wilson_interval(10, 10);
  EXPECT_NEAR(all.low, 0.7225, 1e-3);
  EXPECT_EQ(all.high, 1);
  EXPECT_EQ(wilson_interval(0, 10).low, 0);
}

TEST(Bootstrap, HoldsTheMeanAndDependsOnTheSeedAlone) {
  const std::vector<double> values = {0.1, 0.4, 0.35, 0.8, 0.2, 0.55, 0.3, 0.6};
  const Interval interval = bootstrap_interval(values, 1), again = bootstrap_interval(values, 1);
  EXPECT_EQ(interval.low, again.low);
  // Mean 0.4125, standard error 0.0755: two of them on each side.
  EXPECT_NEAR(interval.low, 0.4125 - 1.96 * 0.0755, 0.03);
  EXPECT_NEAR(interval.high, 0.4125 + 1.96 * 0.0755, 0.03);
  const std::vector<double> same(5, 0.25);
  EXPECT_EQ(bootstrap_interval(same, 1).low, 0.25);
}

TEST(ScoreInterval, OfRightAndWrongIsWilsons) {
  const std::vector<double> right(10, 1), part = {1, 0.5};
  EXPECT_NEAR(score_interval(right, 0).low, 0.7225, 1e-3);
  EXPECT_EQ(score_interval(part, 0).high, 1);
  EXPECT_EQ(score_interval(part, 0).low, 0.5);
}

}  // namespace interval_test
}  // namespace fovea::tasks
