#include "fovea/train/schedule.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

namespace fovea::train {
namespace schedule_test {

using ::testing::HasSubstr;

std::unique_ptr<Schedule> make(const char* settings, int64_t steps) {
  Settings s(nlohmann::ordered_json::parse(settings), "f.json");
  auto made = make_part<Schedule>(s, "name", s.text("name", ""), {.steps = steps});
  const Status end = s.finish();
  EXPECT_TRUE(end.has_value()) << end.error().message;
  return made;
}

TEST(Schedule, CosineIsTheFormula) {
  const auto s = make(R"({"name": "cosine", "warmup": 10, "final": 0.1})", 110);
  EXPECT_DOUBLE_EQ(s->factor(0), 0.1);
  EXPECT_DOUBLE_EQ(s->factor(9), 1.0);
  EXPECT_DOUBLE_EQ(s->factor(10), 1.0);
  for (const int64_t step : {11, 60, 109})
    EXPECT_DOUBLE_EQ(s->factor(step), 0.1 + 0.9 * (1 + std::cos(M_PI * static_cast<double>(step - 10) / 100)) / 2);
  EXPECT_EQ(s->factor(500), s->factor(109));  // a run that goes on past its end
}

TEST(Schedule, LinearGoesStraightDown) {
  const auto s = make(R"({"name": "linear", "warmup": 2, "final": 0.5})", 12);
  EXPECT_DOUBLE_EQ(s->factor(0), 0.5);
  EXPECT_DOUBLE_EQ(s->factor(2), 1.0);
  EXPECT_DOUBLE_EQ(s->factor(7), 0.75);
}

TEST(Schedule, ConstantStaysAndInverseSqrtFalls) {
  EXPECT_DOUBLE_EQ(make(R"({"name": "constant"})", 5)->factor(4), 1);
  const auto s = make(R"({"name": "inverse-sqrt", "warmup": 4})", 100);
  EXPECT_DOUBLE_EQ(s->factor(3), 1);
  EXPECT_DOUBLE_EQ(s->factor(15), 0.5);
}

TEST(Schedule, OneCycleGoesUpOnceAndDown) {
  const auto s = make(R"({"name": "one-cycle", "up": 0.25, "div": 10, "final_div": 100})", 100);
  EXPECT_DOUBLE_EQ(s->factor(0), 0.1);
  EXPECT_DOUBLE_EQ(s->factor(24), 1);
  EXPECT_LT(s->factor(98), 0.01);
  EXPECT_DOUBLE_EQ(s->factor(99), 0.001);
  EXPECT_NEAR(s->factor(61), 0.001 + 0.999 * (1 + std::cos(M_PI * 37 / 75)) / 2, 1e-12);
  EXPECT_LT(s->factor(10), s->factor(20));
}

TEST(Schedule, TrapezoidRisesStaysAndFalls) {
  const auto s = make(R"({"name": "trapezoid"})", 100);
  EXPECT_DOUBLE_EQ(s->factor(0), 0.1);
  EXPECT_DOUBLE_EQ(s->factor(10), 0.55);
  for (const int64_t step : {20, 50, 80}) EXPECT_DOUBLE_EQ(s->factor(step), 1);
  EXPECT_DOUBLE_EQ(s->factor(90), 0.55);
  EXPECT_NEAR(s->factor(99), 0.145, 1e-12);
  const auto cliff = make(R"({"name": "trapezoid", "from": 0.5, "up": 0, "down": 1})", 10);
  EXPECT_DOUBLE_EQ(cliff->factor(0), 1);
  EXPECT_DOUBLE_EQ(cliff->factor(5), 0.75);
}

TEST(Schedule, TrapezoidOfMoreThanTheRunIsRefused) {
  Settings s(nlohmann::ordered_json::parse(R"({"name": "trapezoid", "up": 0.7, "down": 0.5})"), "f.json");
  (void)make_part<Schedule>(s, "name", s.text("name", ""), {.steps = 10});
  EXPECT_THAT(s.finish().error().message, HasSubstr("down and up are more than the run"));
}

// torch.optim.lr_scheduler.OneCycleLR(lr 1, total_steps 3 and 1, pct_start 0.1 and 0.3, div_factor 10, final_div_factor
// 100).
TEST(Schedule, OneCycleOfFewStepsIsPastItsPeak) {
  const auto few = make(R"({"name": "one-cycle", "up": 0.1, "div": 10, "final_div": 100})", 3);
  const double expected[] = {0.8432776981154325, 0.3026581568634414, 0.001};
  for (int s = 0; s < 3; ++s) EXPECT_NEAR(few->factor(s), expected[s], 1e-12) << s;
  EXPECT_NEAR(make(R"({"name": "one-cycle", "div": 10, "final_div": 100})", 1)->factor(0), 0.001, 1e-12);
}

TEST(Schedule, AnUnknownNameIsRefusedWithTheNearest) {
  Settings s(nlohmann::ordered_json::parse(R"({"name": "cosin"})"), "f.json");
  EXPECT_EQ(make_part<Schedule>(s, "name", s.text("name", "")), nullptr);
  EXPECT_THAT(s.finish().error().message, HasSubstr("did you mean cosine?"));
}

}  // namespace schedule_test
}  // namespace fovea::train
