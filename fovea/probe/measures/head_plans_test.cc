#include "fovea/probe/measures/head_plans.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "fovea/base/random.h"
#include "fovea/base/testing/sanitized.h"

namespace fovea::probe {
namespace head_plans_test {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Costs = std::vector<std::vector<std::vector<double>>>;
using Sizes = std::vector<std::vector<int64_t>>;

TEST(HeadPlans, TheHeadThatNeedsItHasTheWidePlan) {
  const auto found = choose_head_plans({{{5, 0}, {1, 0}}}, {{1}, {3}}, {4});
  ASSERT_TRUE(found.has_value()) << found.error().message;
  EXPECT_THAT(found->plans, ElementsAre(ElementsAre(1, 0)));
  EXPECT_EQ(found->cost, 1);
}

// The best of all choices, or infinity.
double brute_force(const Costs& costs, const Sizes& sizes, const std::vector<int64_t>& budgets, bool two_a_layer) {
  size_t n_heads = 0;
  for (const auto& layer : costs) n_heads += layer.size();
  std::vector<size_t> plan(n_heads, 0);
  double best = INFINITY;
  for (bool more = true; more;) {
    double cost = 0;
    std::vector<int64_t> taken(budgets.size(), 0);
    bool fits = true;
    size_t at = 0;
    for (const auto& layer : costs) {
      std::set<size_t> different;
      for (const auto& head : layer) {
        different.insert(plan[at]);
        cost += head[plan[at]];
        for (size_t b = 0; b < taken.size(); ++b) taken[b] += sizes[plan[at]][b];
        ++at;
      }
      fits = fits && (!two_a_layer || different.size() <= 2);
    }
    for (size_t b = 0; b < taken.size(); ++b) fits = fits && taken[b] <= budgets[b];
    if (fits) best = std::min(best, cost);
    more = false;
    for (size_t i = 0; i < n_heads && !more; ++i) {
      more = ++plan[i] < sizes.size();
      if (!more) plan[i] = 0;
    }
  }
  return best;
}

TEST(HeadPlans, AreAsGoodAsTheBestOfAllChoices) {
  Rng rng(5);
  int n_fit = 0, n_bound_by_two = 0;
  for (int round = 0; round < 200; round += every(10)) {
    const size_t n_plans = 2 + rng.below(4), n_budgets = 1 + rng.below(2);
    Costs costs(1 + rng.below(2));
    for (auto& layer : costs) {
      layer.resize(costs.size() == 1 ? 4 : 1 + rng.below(3));
      for (auto& head : layer) {
        for (size_t p = 0; p < n_plans; ++p)
          head.push_back(round % 3 == 0 ? static_cast<double>(rng.below(4)) : rng.uniform());
      }
    }
    Sizes sizes(n_plans);
    for (auto& plan : sizes) {
      for (size_t b = 0; b < n_budgets; ++b) plan.push_back(static_cast<int64_t>(rng.below(6)));
    }
    const std::vector<int64_t> budgets(n_budgets, static_cast<int64_t>(rng.below(14)));
    const double expected = brute_force(costs, sizes, budgets, true);
    n_bound_by_two += expected > brute_force(costs, sizes, budgets, false);
    const auto found = choose_head_plans(costs, sizes, budgets);
    ASSERT_EQ(found.has_value(), std::isfinite(expected)) << round;
    if (!found) {
      EXPECT_EQ(found.error().code, ErrorCode::kData);
      continue;
    }
    ++n_fit;
    EXPECT_NEAR(found->cost, expected, 1e-9) << round;
    EXPECT_LE(found->bound, found->cost + 1e-9);
    double cost = 0;
    std::vector<int64_t> taken(n_budgets, 0);
    for (size_t l = 0; l < costs.size(); ++l) {
      const std::vector<size_t>& mine = found->plans[l];
      EXPECT_LE(std::set<size_t>(mine.begin(), mine.end()).size(), 2u);
      for (size_t h = 0; h < mine.size(); ++h) {
        cost += costs[l][h][mine[h]];
        for (size_t b = 0; b < n_budgets; ++b) taken[b] += sizes[mine[h]][b];
      }
    }
    EXPECT_NEAR(cost, found->cost, 1e-9);
    for (size_t b = 0; b < n_budgets; ++b) EXPECT_LE(taken[b], budgets[b]);
  }
  EXPECT_GT(n_fit, 100 / every(10));
  EXPECT_GT(n_bound_by_two, 5 / every(10));
}

TEST(HeadPlans, AreNoDearerThanTheFirstChoiceThatFits) {
  // Often the first choice is the best one, and by a rounding further above the bound than its own distance.
  Rng rng(5);
  for (int round = 0; round < 40; ++round) {
    Costs costs(2, std::vector<std::vector<double>>(2, std::vector<double>(5)));
    Sizes sizes(5, std::vector<int64_t>(2));
    for (auto& layer : costs) {
      for (auto& head : layer) {
        for (double& cost : head) cost = rng.uniform();
      }
    }
    for (auto& plan : sizes) {
      for (int64_t& size : plan) size = static_cast<int64_t>(1 + rng.below(8));
    }
    const std::vector<int64_t> budgets = {static_cast<int64_t>(8 + rng.below(12)),
                                          static_cast<int64_t>(8 + rng.below(12))};
    const double expected = brute_force(costs, sizes, budgets, true);
    const auto found = choose_head_plans(costs, sizes, budgets);
    ASSERT_EQ(found.has_value(), std::isfinite(expected)) << round;
    if (found) {
      EXPECT_NEAR(found->cost, expected, 1e-9) << round;
    }
  }
}

TEST(HeadPlans, OfAWholeModelTakeSecondsAndUseTheBudget) {
  // 30 layers of 3 heads, spans of elastic rules at two lengths; what is cut off weighs less and less.
  Rng rng(7);
  std::vector<std::pair<int, int>> rules;  // alpha in blocks, beta in eighths; 8 blocks are the first length
  for (int alpha = -8; alpha <= 16; ++alpha) {
    for (int beta = 0; beta <= 8; ++beta) {
      if (alpha + beta > 0 && alpha + 2 * beta <= 16) rules.emplace_back(alpha, beta);
    }
  }
  Sizes sizes;
  for (const auto& [alpha, beta] : rules) sizes.push_back({std::min(8, alpha + beta), alpha + 2 * beta});
  const int n_layers = 30 / every(5);
  Costs costs(static_cast<size_t>(n_layers), std::vector<std::vector<double>>(3));
  for (auto& layer : costs) {
    for (auto& head : layer) {
      const double weight = std::exp(2 * rng.normal()), far = 1 + 7 * rng.uniform();
      for (const auto& plan : sizes)
        head.push_back(weight * (std::exp(-static_cast<double>(plan[0]) / far) - std::exp(-8 / far) +
                                 std::exp(-static_cast<double>(plan[1]) / far) - std::exp(-16 / far)));
    }
  }
  for (auto& layer : costs) {
    for (auto& head : layer) {
      for (double& cost : head) cost = std::max(0.0, cost);
    }
  }
  const auto found = choose_head_plans(costs, sizes, {n_layers * 3 * 4, n_layers * 3 * 8});
  ASSERT_TRUE(found.has_value()) << found.error().message;
  EXPECT_LE(found->cost - found->bound, 0.02 * found->cost);
  int64_t taken = 0;
  for (const auto& layer : found->plans) {
    for (const size_t plan : layer) taken += sizes[plan][1];
  }
  EXPECT_GE(taken, n_layers * 3 * 8 * 9 / 10);
}

TEST(HeadPlans, RefusesWhatDoesNotFitAndSaysWhy) {
  EXPECT_THAT(choose_head_plans({{{1}}}, {}, {1}).error().message, HasSubstr("no plans"));
  EXPECT_THAT(choose_head_plans({{{1, 2}}}, {{1}}, {1}).error().message, HasSubstr("2 costs for 1 plans"));
  EXPECT_THAT(choose_head_plans({{{1}}}, {{1, 1}}, {1}).error().message, HasSubstr("1 sizes"));
  EXPECT_THAT(choose_head_plans({{{-1}}}, {{1}}, {1}).error().message, HasSubstr("negative"));
  EXPECT_EQ(choose_head_plans({{{1}}}, {{2}}, {1}).error().code, ErrorCode::kData);
}

}  // namespace head_plans_test
}  // namespace fovea::probe
