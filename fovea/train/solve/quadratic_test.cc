#include "fovea/train/solve/quadratic.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "fovea/base/random.h"

namespace fovea::train {
namespace quadratic_test {

using ::testing::HasSubstr;

Matrix identity(int64_t n) {
  Matrix out(n, n);
  for (int64_t i = 0; i < n; ++i) out(i, i) = 1;
  return out;
}

TEST(MinQuadratic, FindsTheWidestMarginByHand) {
  // Points (2, 0) of one class and (0, 0) of the other: w = (1, 0), bias -1. The bias has a tiny weight, to be strict.
  Matrix h = identity(3);
  h(2, 2) = 1e-9;
  const auto found = min_quadratic(h, {0, 0, 0}, Matrix(2, 3, {2, 0, 1, 0, 0, -1}), {1, 1});
  ASSERT_TRUE(found.has_value()) << found.error().message;
  EXPECT_NEAR(found->x[0], 1, 1e-6);
  EXPECT_NEAR(found->x[1], 0, 1e-12);
  EXPECT_NEAR(found->x[2], -1, 1e-6);
}

TEST(MinQuadratic, WithoutRowsIsTheSolutionOfALinearSystem) {
  const Quadratic found = min_quadratic(Matrix(2, 2, {2, 0, 0, 4}), {-2, -8}, Matrix(0, 2), {}).value();
  EXPECT_NEAR(found.x[0], 1, 1e-14);
  EXPECT_NEAR(found.x[1], 2, 1e-14);
  EXPECT_NEAR(found.value, -9, 1e-13);
}

// The conditions of Karush, Kuhn and Tucker prove an answer of a convex program right.
TEST(MinQuadratic, SatisfiesTheConditionsOfOptimality) {
  Rng rng(5);
  for (int round = 0; round < 60; ++round) {
    const auto n = static_cast<int64_t>(1 + rng.below(8)), m = static_cast<int64_t>(rng.below(20));
    Matrix root(n, n), a(m, n), h = identity(n);
    std::vector<double> g(static_cast<size_t>(n)), b(static_cast<size_t>(m)), inside(static_cast<size_t>(n));
    for (double& v : root.values) v = rng.normal();
    for (double& v : a.values) v = rng.normal();
    for (double& v : g) v = 3 * rng.normal();
    for (double& v : inside) v = rng.normal();
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = 0; j < n; ++j) {
        for (int64_t k = 0; k < n; ++k) h(i, j) += root(k, i) * root(k, j);
      }
    }
    for (int64_t r = 0; r < m; ++r) {  // every row holds at `inside`
      for (int64_t i = 0; i < n; ++i) b[static_cast<size_t>(r)] += a(r, i) * inside[static_cast<size_t>(i)];
      b[static_cast<size_t>(r)] -= rng.uniform();
    }
    const auto found = min_quadratic(h, g, a, b);
    ASSERT_TRUE(found.has_value()) << round << ": " << found.error().message;
    for (int64_t i = 0; i < n; ++i) {
      double gradient = g[static_cast<size_t>(i)];
      for (int64_t j = 0; j < n; ++j) gradient += h(i, j) * found->x[static_cast<size_t>(j)];
      for (int64_t r = 0; r < m; ++r) gradient -= a(r, i) * found->multipliers[static_cast<size_t>(r)];
      EXPECT_NEAR(gradient, 0, 1e-9) << round;
    }
    for (int64_t r = 0; r < m; ++r) {
      double slack = -b[static_cast<size_t>(r)];
      for (int64_t i = 0; i < n; ++i) slack += a(r, i) * found->x[static_cast<size_t>(i)];
      EXPECT_GE(slack, -1e-9) << round;
      EXPECT_GE(found->multipliers[static_cast<size_t>(r)], 0);
      EXPECT_NEAR(slack * found->multipliers[static_cast<size_t>(r)], 0, 1e-8) << round;
    }
  }
}

TEST(MinQuadratic, RefusesWhatHasNoAnswer) {
  EXPECT_THAT(min_quadratic(identity(1), {0}, Matrix(2, 1, {1, -1}), {1, 1}).error().message, HasSubstr("no x"));
  EXPECT_THAT(min_quadratic(Matrix(1, 1, {-1}), {0}, Matrix(0, 1), {}).error().message, HasSubstr("definite"));
  EXPECT_THAT(min_quadratic(identity(2), {0}, Matrix(0, 1), {}).error().message, HasSubstr("h is 2 x 2"));
  EXPECT_THAT(min_quadratic(identity(1), {NAN}, Matrix(0, 1), {}).error().message, HasSubstr("not finite"));
}

}  // namespace quadratic_test
}  // namespace fovea::train
