#include "papers/support/decode_run.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <utility>
#include <vector>

#include "fovea/base/testing/paths.h"

namespace fovea::papers {
namespace decode_run_test {

using ::testing::HasSubstr;

// Four heads of 320 keys in pages of 100 bytes, of which two hold 79 keys in three pages each.
DecodeRun two_short_heads() {
  DecodeRun run;
  run.n_keys = 320;
  run.kept = {320, 79, 79, 320};
  run.bytes = {.kept = 2 * 1000 + 2 * 300, .dense = 4 * 1000};
  return run;
}

TEST(DecodeRun, HoldsWhatTheFormulaSays) {
  const Outcome outcome = holds(two_short_heads(), 79, 2, 2);
  EXPECT_TRUE(outcome.passed) << outcome.measured;
  EXPECT_THAT(outcome.measured, HasSubstr("2 heads of 320 keys and 2 of 79; 0.650 of dense, the formula 0.650"));
}
TEST(DecodeRun, HoldsNotWhereAHeadKeepsAnotherNumberOfKeys) {
  EXPECT_FALSE(holds(two_short_heads(), 80, 2, 2).passed);
  EXPECT_FALSE(holds(two_short_heads(), 79, 3, 4).passed) << "too few are full";
  EXPECT_FALSE(holds(two_short_heads(), 79, 0, 1).passed) << "too many are full";
}
TEST(DecodeRun, HoldsNotWhereBytesStayThatKeysDoNotTake) {
  DecodeRun run = two_short_heads();
  run.bytes.kept += 2 * 100;
  EXPECT_TRUE(holds(run, 79, 2, 2).passed) << "a page a head: a cut may lie within one";
  run.bytes.kept += 1;
  EXPECT_FALSE(holds(run, 79, 2, 2).passed);
}
TEST(DecodeRun, HoldsSaysNothingWhileNothingIsDropped) { EXPECT_FALSE(holds(two_short_heads(), 320, 0, 4).has_data); }

Result<Outcome> on_tiny_model(const std::function<Result<Outcome>(Run&)>& measure) {
  const auto model = engine::Model::load(source_dir() + "/tests/data/tiny-llama.gguf");
  if (!model) return model.error();
  const Paper paper{.slug = "a-paper"};
  const RunOptions options;
  Report report;
  Run run(paper, *model, options, report);
  return measure(run);
}

TEST(DecodeRun, SameBitsThroughoutSeesAMethodThatDropsKeys) {
  const auto same =
      on_tiny_model([](papers::Run& run) { return same_bits_throughout(run, "streaming-llm:window=1020"); });
  ASSERT_TRUE(same.has_value()) << same.error().message;
  EXPECT_TRUE(same->passed) << same->measured;
  const auto other =
      on_tiny_model([](papers::Run& run) { return same_bits_throughout(run, "streaming-llm:n_sink=0:window=20"); });
  ASSERT_TRUE(other.has_value()) << other.error().message;
  EXPECT_FALSE(other->passed) << other->measured;
}

TEST(DecodeRun, TimesNoStepsOfAModelThatReadsFewKeys) {
  const auto time = on_tiny_model([](papers::Run& run) { return attention_time(run, "dense", 8192); });
  ASSERT_TRUE(time.has_value()) << time.error().message;
  EXPECT_FALSE(time->has_data);
  EXPECT_THAT(time->measured, HasSubstr("512 keys are too few"));
}

// Which times there are is not tested, but what is asked for and what is judged.
TEST(DecodeRun, CostIsOfThoseNumbersOfKeysThatAreWorthTiming) {
  const auto cost = [](const std::vector<int>& n_keys, double most) {
    std::vector<int> asked;
    const auto outcome = on_tiny_model([&](papers::Run& run) {
      return cost_by_dense(
          run, n_keys, [&asked](int n) { return asked.push_back(n), "dense"; }, most, most);
    });
    return std::pair(outcome.value(), asked);
  };
  const auto [any, asked] = cost({100, 256, 300}, 1e9);
  EXPECT_TRUE(any.has_data && any.passed) << any.measured;
  EXPECT_EQ(asked, (std::vector<int>{256, 300}));
  EXPECT_THAT(any.measured, HasSubstr("; 300 keys: prompt "));
  EXPECT_FALSE(cost({256}, 0).first.passed);
  EXPECT_FALSE(cost({100}, 1e9).first.has_data);
}

}  // namespace decode_run_test
}  // namespace fovea::papers
