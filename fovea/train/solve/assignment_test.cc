#include "fovea/train/solve/assignment.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "fovea/base/random.h"

namespace fovea::train {
namespace assignment_test {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

double total(const Matrix& cost, const std::vector<int64_t>& columns) {
  double sum = 0;
  for (size_t r = 0; r < columns.size(); ++r) sum += cost(static_cast<int64_t>(r), columns[r]);
  return sum;
}

TEST(Assign, TakesTheLeastSumAndNotTheLeastOfEachRow) {
  EXPECT_THAT(assign(Matrix(2, 2, {1, 2, 1, 5})).value(), ElementsAre(1, 0));
  EXPECT_THAT(assign(Matrix(1, 3, {3, -1, 2})).value(), ElementsAre(1));
  EXPECT_TRUE(assign(Matrix(0, 3)).value().empty());
}

TEST(Assign, IsAsGoodAsTheBestOfAllPermutations) {
  Rng rng(3);
  for (int round = 0; round < 200; ++round) {
    const auto rows = static_cast<int64_t>(1 + rng.below(4));
    const auto cols = rows + static_cast<int64_t>(rng.below(3));
    Matrix cost(rows, cols);
    for (double& c : cost.values) c = round % 2 == 0 ? rng.normal() : static_cast<double>(rng.below(4));  // and ties
    std::vector<int64_t> order(static_cast<size_t>(cols));
    std::iota(order.begin(), order.end(), int64_t{0});
    double best = INFINITY;
    do {
      best = std::min(best, total(cost, {order.begin(), order.begin() + rows}));
    } while (std::next_permutation(order.begin(), order.end()));
    std::vector<int64_t> found = assign(cost).value();
    EXPECT_NEAR(total(cost, found), best, 1e-12) << round;
    std::sort(found.begin(), found.end());
    EXPECT_EQ(std::unique(found.begin(), found.end()), found.end());
  }
}

TEST(Assign, RefusesTooFewColumnsAndCostsThatAreNone) {
  EXPECT_THAT(assign(Matrix(3, 2)).error().message, HasSubstr("3 rows"));
  EXPECT_THAT(assign(Matrix(1, 2, {0, NAN})).error().message, HasSubstr("row 0, column 1"));
}

}  // namespace assignment_test
}  // namespace fovea::train
