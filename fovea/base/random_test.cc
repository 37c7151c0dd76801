#include "fovea/base/random.h"

#include <gtest/gtest.h>

#include <array>

#include "fovea/base/check.h"

namespace fovea {
namespace random_test {

TEST(Rng, TheSameSeedGivesTheSameNumbersAndAnotherSeedOthers) {
  Rng a(7), b(7), c(8);
  const uint64_t first = a.next();
  EXPECT_EQ(first, b.next());
  EXPECT_NE(first, c.next());
}

TEST(Rng, BelowReachesEveryValueAboutEquallyOften) {
  Rng rng(1);
  std::array<int, 5> counts{};
  for (int i = 0; i < 10000; ++i) ++counts.at(rng.below(5));
  for (int count : counts) EXPECT_NEAR(count, 2000, 200);  // five standard deviations
  EXPECT_THROW(rng.below(0), CheckFailed);
}

TEST(Rng, NormalHasMeanZeroAndDeviationOne) {
  Rng rng(2);
  double sum = 0, squares = 0;
  for (int i = 0; i < 10000; ++i) {
    const double x = rng.normal();
    sum += x;
    squares += x * x;
  }
  EXPECT_NEAR(sum / 10000, 0.0, 0.05);
  EXPECT_NEAR(squares / 10000, 1.0, 0.08);
}

}  // namespace random_test
}  // namespace fovea
