#include "papers/support/run.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

namespace fovea::papers {
namespace run_test {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

Check check(int item, Kind kind, bool passed) {
  return {item, kind, fmt::format("{} {}", name_of(kind), passed), "x", [=](papers::Run&) -> Result<Outcome> {
            return Outcome{passed, "y"};
          }};
}
Paper paper(std::vector<Check> checks) {
  return {.slug = "a-paper",
          .title = "A",
          .source = "B",
          .n_items = 3,
          .settings = {{"lengths", "512,1024", "64", "tokens", 1, 4096},
                       {"mode", "zero", "zero", "a word", 0, -1, {"zero", "mean"}},
                       {"label", "", "", "any text"}},
          .checks = std::move(checks)};
}

TEST(Reproduce, FailsForExactChecksAndControlsAndNotForShapes) {
  const auto report =
      reproduce(paper({check(1, Kind::kExact, true), check(2, Kind::kShape, false), check(3, Kind::kControl, true)}),
                nullptr, {});
  ASSERT_TRUE(report.has_value()) << report.error().message;
  EXPECT_TRUE(report->failed().empty());
  EXPECT_EQ(verdict_of(report->checks[1]), "not shown");
  for (const Kind kind : {Kind::kExact, Kind::kControl}) {
    const auto failed = reproduce(paper({check(1, Kind::kShape, false), check(2, kind, false)}), nullptr, {});
    ASSERT_EQ(failed->failed().size(), 1u);
    EXPECT_EQ(failed->failed()[0]->item, 2);
  }
}

TEST(Reproduce, LeavesOutAControlWithoutDataAndShowsNoShapeWithoutIt) {
  const auto none = [](papers::Run&) -> Result<Outcome> { return no_data("nothing was accepted"); };
  const auto report = reproduce(
      paper(
          {{1, Kind::kExact, "e", "x", none}, {2, Kind::kShape, "s", "x", none}, {3, Kind::kControl, "c", "x", none}}),
      nullptr, {});
  ASSERT_TRUE(report.has_value()) << report.error().message;
  EXPECT_EQ(report->checks.size(), 2u);
  EXPECT_EQ(report->failed().size(), 1u);  // what must hold and was not seen
  EXPECT_EQ(verdict_of(report->checks[1]), "no data");
  EXPECT_EQ(report->checks[1].measured, "no data: nothing was accepted");
  ASSERT_EQ(report->skipped.size(), 1u);
  EXPECT_EQ(report->skipped[0].name, "c");
}

TEST(Reproduce, TakesSettingsOfTheRunOfFastOrOfThePaper) {
  std::vector<std::string> seen;
  const Paper of =
      paper({{1, Kind::kExact, "e", "x", [&](papers::Run& run) -> Result<Outcome> {
                seen.push_back(fmt::format("{} {}", fmt::join(run.numbers("lengths"), " "), run.word("mode")));
                return Outcome{true, ""};
              }}});
  EXPECT_TRUE(reproduce(of, nullptr, {}).has_value());
  EXPECT_TRUE(reproduce(of, nullptr, {.fast = true}).has_value());
  EXPECT_TRUE(reproduce(of, nullptr, {.settings = {{"lengths", "7"}, {"mode", "mean"}}}).has_value());
  EXPECT_THAT(seen, ElementsAre("512 1024 zero", "64 zero", "7 mean"));
  for (const auto& [name, value] : std::vector<std::pair<std::string, std::string>>{
           {"length", "1"}, {"lengths", "0"}, {"lengths", "1,,2"}, {"lengths", ""}, {"lengths", "5000"}}) {
    RunOptions options;
    options.settings[name] = value;
    const auto refused = reproduce(of, nullptr, options);
    ASSERT_FALSE(refused.has_value()) << name << "=" << value;
    EXPECT_EQ(refused.error().code, ErrorCode::kUsage);
    EXPECT_THAT(refused.error().message, HasSubstr("--set " + name));
  }
}

TEST(Reproduce, RunsTheChecksOfOneItemAndGivesTheCommandOfEach) {
  RunOptions options;
  options.item = 2, options.seed = 4, options.model_name = "my model";
  options.settings["label"] = "a'b";
  const auto report = reproduce(paper({check(1, Kind::kExact, true), check(2, Kind::kShape, true)}), nullptr, options);
  ASSERT_TRUE(report.has_value()) << report.error().message;
  ASSERT_EQ(report->checks.size(), 1u);
  EXPECT_EQ(report->checks[0].command, "fovea reproduce a-paper -m 'my model' --seed 4 --set 'label=a'\\''b' --item 2");
  options.item = 4;
  EXPECT_THAT(reproduce(paper({}), nullptr, options).error().message,
              AllOf(HasSubstr("--item 4"), HasSubstr("1 to 3")));
}

TEST(Reproduce, RefusesASettingThatIsNoneOfItsWords) {
  RunOptions options;
  options.settings = {{"mode", "mean:seed=3"}};
  const auto report = reproduce(paper({}), nullptr, options);
  ASSERT_FALSE(report.has_value());
  EXPECT_THAT(report.error().message, AllOf(HasSubstr("mode=mean:seed=3"), HasSubstr("zero, mean")));
}

TEST(Reproduce, SaysSoWhenACellHoldsSomethingElse) {
  const auto report =
      reproduce(paper({{1, Kind::kExact, "e", "x",
                        [](papers::Run& run) -> Result<Outcome> {
                          FOVEA_ASSIGN_OR_RETURN(const Json cell, run.cell("arm", {}, []() -> Result<Json> {
                            return Json{{"value", "a word"}};
                          }));
                          return Outcome{cell.at("value").get<int>() == 3, "y"};
                        }}}),
                nullptr, {});
  ASSERT_FALSE(report.has_value());
  EXPECT_THAT(report.error().message, AllOf(HasSubstr("e: what was kept"), HasSubstr("--again")));
}

TEST(Reproduce, GoesOnAfterTheLastCellThatAnEndedRunFinished) {
  std::string dir = ::testing::TempDir() + "/run-XXXXXX";
  ASSERT_NE(mkdtemp(dir.data()), nullptr);
  std::atomic<bool> cancel = false;
  std::vector<int> measured;
  const Paper of =
      paper({{1, Kind::kExact, "e", "x", [&](papers::Run& run) -> Result<Outcome> {
                int sum = 0;
                for (int i = 0; i < 3; ++i) {
                  FOVEA_ASSIGN_OR_RETURN(const Json cell, run.cell("arm", {{"i", i}}, [&]() -> Result<Json> {
                    if (run.cancel()->load()) return make_error(ErrorCode::kCancelled, "interrupted");
                    measured.push_back(i);
                    cancel = i == 1;  // Ctrl+C while the second is measured: the third never is
                    return Json{{"value", i}};
                  }));
                  sum += cell["value"].get<int>();
                }
                return Outcome{sum == 3, fmt::format("{}", sum)};
              }}});
  RunOptions options;
  options.cache_dir = dir, options.cancel = &cancel;
  const auto ended = reproduce(of, nullptr, options);
  ASSERT_FALSE(ended.has_value());
  EXPECT_EQ(ended.error().code, ErrorCode::kCancelled);
  cancel = false;
  const auto report = reproduce(of, nullptr, options);
  ASSERT_TRUE(report.has_value()) << report.error().message;
  EXPECT_THAT(measured, ElementsAre(0, 1, 2));
  EXPECT_TRUE(report->checks[0].passed);
  EXPECT_EQ(report->cells.size(), 3u);
  EXPECT_TRUE(report->cells[0].kept && report->cells[1].kept && !report->cells[2].kept);
  std::filesystem::remove_all(dir);
}

}  // namespace run_test
}  // namespace fovea::papers
