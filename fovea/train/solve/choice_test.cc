#include "fovea/train/solve/choice.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "fovea/base/random.h"

namespace fovea::train {
namespace choice_test {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Items = std::vector<std::vector<ItemOption>>;

TEST(ChooseOptions, SpendsTheBudgetWhereItSavesMost) {
  const Items items = {{{5, {1}}, {0, {3}}}, {{4, {1}}, {1, {3}}}};
  EXPECT_THAT(choose_options(items, {4}).value(), ElementsAre(1, 0));
  EXPECT_THAT(choose_options(items, {6}).value(), ElementsAre(1, 1));
  EXPECT_THAT(choose_options(items, {3}).value(), ElementsAre(0, 0));
  EXPECT_TRUE(choose_options({}, {1}).value().empty());
}

TEST(ChooseOptions, IsAsGoodAsTheBestOfAllChoices) {
  Rng rng(11);
  for (int round = 0; round < 100; ++round) {
    const size_t n_budgets = 1 + rng.below(3), n = 1 + rng.below(6);
    Items items(n);
    for (auto& options : items) {
      options.resize(1 + rng.below(3));
      for (ItemOption& option : options) {
        option.cost = round % 3 == 0 ? static_cast<double>(rng.below(3)) : rng.normal();
        for (size_t b = 0; b < n_budgets; ++b) option.sizes.push_back(static_cast<int64_t>(rng.below(6)));
      }
    }
    const std::vector<int64_t> budgets(n_budgets, static_cast<int64_t>(2 * n));
    double best = INFINITY;
    std::vector<size_t> at(n, 0);
    const auto cost_of = [&](const std::vector<size_t>& choice) {
      double cost = 0;
      std::vector<int64_t> sizes(n_budgets);
      for (size_t i = 0; i < n; ++i) {
        cost += items[i][choice[i]].cost;
        for (size_t b = 0; b < n_budgets; ++b) sizes[b] += items[i][choice[i]].sizes[b];
      }
      for (size_t b = 0; b < n_budgets; ++b) cost += sizes[b] > budgets[b] ? INFINITY : 0;
      return cost;
    };
    for (bool more = true; more;) {
      best = std::min(best, cost_of(at));
      more = false;
      for (size_t i = 0; i < n && !more; ++i) {
        more = ++at[i] < items[i].size();
        if (!more) at[i] = 0;
      }
    }
    const auto found = choose_options(items, budgets);
    ASSERT_EQ(found.has_value(), std::isfinite(best)) << round;
    if (found) {
      EXPECT_NEAR(cost_of(*found), best, 1e-12) << round;
    }
  }
}

TEST(ChooseOptions, RefusesWhatFitsNowhereOrIsTooMuch) {
  EXPECT_THAT(choose_options({{{0, {2}}}}, {1}).error().message, HasSubstr("smaller than the smallest"));
  EXPECT_THAT(choose_options({{}}, {1}).error().message, HasSubstr("item 0 has no option"));
  EXPECT_THAT(choose_options({{{NAN, {1}}}}, {1}).error().message, HasSubstr("cost of item 0"));
  EXPECT_THAT(choose_options({{{0, {1, 2}}}}, {1}).error().message, HasSubstr("2 sizes"));
  EXPECT_THAT(choose_options({{{0, {-1}}}}, {1}).error().message, HasSubstr("size of item 0"));
  const Items many(20, {{0, {1}}, {-1, {2}}});
  EXPECT_THAT(choose_options(many, {30}, 8).error().message, HasSubstr("more than 8 partial choices"));
}

}  // namespace choice_test
}  // namespace fovea::train
