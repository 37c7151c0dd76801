#include "fovea/train/solve/linear.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "fovea/base/random.h"

namespace fovea::train {
namespace linear_test {

using ::testing::HasSubstr;

Matrix random_matrix(int64_t rows, int64_t cols, uint64_t seed) {
  Rng rng(seed);
  Matrix out(rows, cols);
  for (double& v : out.values) v = rng.normal();
  return out;
}

TEST(Ridge, OfOneColumnIsTheQuotientByHand) {
  const auto w = ridge(Matrix(3, 1, {1, 2, 3}), Matrix(3, 1, {2, 4, 7}), 1);  // (2 + 8 + 21) / (1 + 4 + 9 + 1)
  ASSERT_TRUE(w.has_value()) << w.error().message;
  EXPECT_NEAR(w->values[0], 31.0 / 15, 1e-14);
}

TEST(Ridge, LeavesNoGradient) {
  const Matrix x = random_matrix(40, 7, 1), y = random_matrix(40, 3, 2);
  const Matrix w = ridge(x, y, 0.3).value();
  for (int64_t i = 0; i < 7; ++i) {
    for (int64_t o = 0; o < 3; ++o) {
      double gradient = 0.3 * w(i, o);
      for (int64_t r = 0; r < 40; ++r) {
        double error = -y(r, o);
        for (int64_t k = 0; k < 7; ++k) error += x(r, k) * w(k, o);
        gradient += x(r, i) * error;
      }
      EXPECT_NEAR(gradient, 0, 1e-11) << i << ", " << o;
    }
  }
}

TEST(Ridge, TakesColumnsOfAnyUnits) {
  const Matrix x = random_matrix(20, 3, 3), y = random_matrix(20, 2, 4);
  const Matrix w = ridge(x, y, 0).value();
  for (const double unit : {1e4, 1e8, 1e20}) {
    const double units[] = {1, unit, 1 / unit};
    Matrix scaled = x;
    for (int64_t i = 0; i < scaled.rows * 3; ++i) scaled.values[static_cast<size_t>(i)] *= units[i % 3];
    const auto same = ridge(scaled, y, 0);
    ASSERT_TRUE(same.has_value()) << unit << ": " << same.error().message;
    for (int64_t i = 0; i < 3; ++i) {
      for (int64_t o = 0; o < 2; ++o) EXPECT_NEAR((*same)(i, o) * units[i], w(i, o), 1e-12) << unit;
    }
  }
}

TEST(Ridge, RefusesWhatHasNoAnswer) {
  const Matrix twice(3, 2, {1, 2, 2, 4, 3, 6}), y(3, 1, {1, 1, 1});
  EXPECT_THAT(ridge(twice, y, 0).error().message, HasSubstr("depend on each other"));
  EXPECT_TRUE(ridge(twice, y, 1e-3).has_value());
  const Matrix apart(3, 2, {1e-6, 2e6, 2e-6, 4e6, 3e-6, 6e6}), empty(3, 2, {1, 0, 2, 0, 3, 0});
  EXPECT_THAT(ridge(apart, y, 0).error().message, HasSubstr("depend on each other"));
  EXPECT_THAT(ridge(empty, y, 0).error().message, HasSubstr("depend on each other"));
  EXPECT_THAT(ridge(twice, Matrix(2, 1), 0).error().message, HasSubstr("3 rows and y has 2"));
  EXPECT_THAT(ridge(twice, y, -1).error().message, HasSubstr("lambda is -1"));
  EXPECT_THAT(ridge(twice, y, NAN).error().message, HasSubstr("lambda"));
  EXPECT_THAT(ridge(twice, Matrix(3, 1, {1, NAN, 1}), 1).error().message, HasSubstr("y: row 1, column 0"));
}

TEST(Svd, GivesTheMatrixBackFromOrthogonalColumns) {
  for (const auto& [rows, cols] : {std::pair{9, 4}, {4, 9}, {5, 5}, {1, 3}}) {
    const Matrix a = random_matrix(rows, cols, 5);
    const Svd parts = svd(a).value();
    const auto n = static_cast<int64_t>(parts.s.size());
    ASSERT_EQ(n, std::min(rows, cols));
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < cols; ++c) {
        double sum = 0;
        for (int64_t i = 0; i < n; ++i) sum += parts.u(r, i) * parts.s[static_cast<size_t>(i)] * parts.v(c, i);
        EXPECT_NEAR(sum, a(r, c), 1e-13);
      }
    }
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = 0; j < n; ++j) {
        double dot = 0;
        for (int64_t r = 0; r < rows; ++r) dot += parts.u(r, i) * parts.u(r, j);
        EXPECT_NEAR(dot, i == j ? 1 : 0, 1e-13);
      }
      if (i > 0) {
        EXPECT_LE(parts.s[static_cast<size_t>(i)], parts.s[static_cast<size_t>(i - 1)]);
      }
    }
  }
}

TEST(Svd, KnowsADiagonalAndItsSign) {
  const Svd parts = svd(Matrix(2, 2, {0, -2, 3, 0})).value();
  EXPECT_NEAR(parts.s[0], 3, 1e-14);
  EXPECT_NEAR(parts.s[1], 2, 1e-14);
  EXPECT_NEAR(parts.u(1, 0), 1, 1e-14);
  EXPECT_NEAR(parts.u(0, 1), 1, 1e-14);
  EXPECT_NEAR(parts.v(1, 1), -1, 1e-14);
  EXPECT_FALSE(svd(Matrix(0, 3)).has_value());
  EXPECT_THAT(svd(Matrix(1, 1, {INFINITY})).error().message, HasSubstr("row 0, column 0 is inf"));
}

}  // namespace linear_test
}  // namespace fovea::train
