#include "fovea/train/solve/k_means.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "fovea/base/random.h"

namespace fovea::train {
namespace k_means_test {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(KMeans, FindsGroupsThatLieApart) {
  const auto found = k_means(Matrix(5, 1, {0, 1, 10, 11, 12}), 2, 4);
  ASSERT_TRUE(found.has_value()) << found.error().message;
  EXPECT_EQ(found->of[0], found->of[1]);
  EXPECT_EQ(found->of[2], found->of[4]);
  EXPECT_NE(found->of[0], found->of[2]);
  EXPECT_DOUBLE_EQ(found->squares, 2.5);  // 2 * 0.25 and 1 + 0 + 1
  std::set<double> centres(found->centres.values.begin(), found->centres.values.end());
  EXPECT_THAT(centres, ElementsAre(0.5, 11));
}

TEST(KMeans, CentresAreTheMeansOfTheirPointsAndTheNearest) {
  Rng rng(8);
  Matrix points(200, 3);
  for (double& v : points.values) v = rng.normal();
  const Clusters found = k_means(points, 6, 1, 1000).value();
  EXPECT_LT(found.n_steps, 1000);
  for (int64_t c = 0; c < 6; ++c) {
    double sum = 0;
    int n = 0;
    for (int64_t i = 0; i < 200; ++i) {
      if (found.of[static_cast<size_t>(i)] == c) sum += points(i, 1), ++n;
    }
    ASSERT_GT(n, 0);
    EXPECT_NEAR(found.centres(c, 1), sum / n, 1e-12);
  }
  EXPECT_EQ(k_means(points, 6, 1, 1000).value().of, found.of);
  EXPECT_NE(k_means(points, 6, 2, 1000).value().of, found.of);
}

TEST(KMeans, EqualPointsLeaveNoCentreWithoutANumber) {
  const Clusters same = k_means(Matrix(4, 1, {3, 3, 3, 3}), 3, 0).value();
  EXPECT_THAT(same.centres.values, ElementsAre(3, 3, 3));
  EXPECT_EQ(same.squares, 0);
  EXPECT_EQ(k_means(Matrix(3, 1, {1, 2, 3}), 3, 0).value().squares, 0);
}

TEST(KMeans, RefusesMoreClustersThanPointsAndPointsThatAreNone) {
  EXPECT_THAT(k_means(Matrix(2, 1), 3, 0).error().message, HasSubstr("3 clusters of 2 points"));
  EXPECT_FALSE(k_means(Matrix(2, 1), 0, 0).has_value());
  EXPECT_THAT(k_means(Matrix(2, 1, {0, NAN}), 1, 0).error().message, HasSubstr("point 1, column 0 is nan"));
}

}  // namespace k_means_test
}  // namespace fovea::train
