#include "fovea/train/loop.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>

#include "fovea/base/file.h"

namespace fovea::train {
namespace loop_test {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using Json = nlohmann::ordered_json;

class Loop : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = ::testing::TempDir() + "/loop-XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder_ = name;
    const Json config = {
        {"model", {{"net", "llama"}, {"d_model", 16}, {"n_layers", 1}, {"n_heads", 2}, {"vocab_size", 12}}},
        {"data", {{"generator", "copy"}}},
        {"context", 8},
        {"steps", 6},
        {"eval", {{"data", {{"generator", "copy"}}}, {"every", 4}, {"samples", 3}}},
        {"checkpoint_every", 2},
        {"out", folder_ + "/out"}};
    ASSERT_TRUE(write_file_atomic(path(), config.dump()).has_value());
  }
  void TearDown() override { fs::remove_all(folder_); }
  std::string path() const { return folder_ + "/config.json"; }
  std::string folder_;
};

TEST_F(Loop, TellsEveryStep) {
  std::vector<StepReport> steps;
  TrainOptions options{.program = "test"};
  options.on_step = [&](const StepReport& step) { steps.push_back(step); };
  const auto result = train(path(), options);
  ASSERT_TRUE(result.has_value()) << result.error().message;
  ASSERT_EQ(steps.size(), 6u);
  EXPECT_EQ(steps[3].step, 4);
  EXPECT_EQ(steps[3].steps, 6);
  EXPECT_TRUE(steps[3].eval_loss && steps[5].eval_loss && !steps[4].eval_loss);
  EXPECT_GT(steps[5].tokens_per_second, 0);
  EXPECT_GT(steps[5].memory_bytes, 1'000'000u);
  EXPECT_EQ(result->step, 6);
  EXPECT_EQ(result->eval_loss, steps[5].eval_loss);
  EXPECT_TRUE(fs::exists(result->model + "/config.json"));
}

TEST_F(Loop, AStopIsAskedForBetweenSteps) {
  std::atomic<bool> stop{false};
  TrainOptions options{.cancel = &stop};
  options.on_step = [&](const StepReport& step) { stop = step.step == 3; };
  const auto stopped = train(path(), options);
  ASSERT_FALSE(stopped.has_value());
  EXPECT_EQ(stopped.error().code, ErrorCode::kCancelled);
  EXPECT_THAT(stopped.error().message, HasSubstr("stopped behind step 3 of 6"));
  std::vector<std::string> told;
  TrainOptions more{.resume = true};
  more.tell = [&](std::string_view sentence) { told.emplace_back(sentence); };
  ASSERT_TRUE(train(path(), more).has_value());
  EXPECT_THAT(told, ::testing::ElementsAre("goes on from step 3 of 6"));
}

TEST_F(Loop, TwoRunsDoNotShareAFolder) {
  TrainOptions options;
  std::optional<Result<TrainResult>> second;
  options.on_step = [&](const StepReport& at) {
    if (at.step == 3) second.emplace(train(path(), {.restart = true}));
  };
  const auto first = train(path(), options);
  ASSERT_TRUE(first.has_value()) << first.error().message;
  ASSERT_TRUE(second && !second->has_value());
  EXPECT_THAT(second->error().message, HasSubstr("another training is at work in"));
  EXPECT_EQ(first->step, 6);
}

TEST_F(Loop, ADoneRunHasNothingLeftToDo) {
  ASSERT_TRUE(train(path(), {}).has_value());
  const std::string log = *read_file(folder_ + "/out/log.jsonl");
  const auto again = train(path(), {.resume = true});
  ASSERT_TRUE(again.has_value()) << again.error().message;
  EXPECT_EQ(again->step, 6);
  EXPECT_TRUE(again->eval_loss.has_value());
  EXPECT_EQ(*read_file(folder_ + "/out/log.jsonl"), log);
}

TEST_F(Loop, AStepThatIsReachedAlreadyIsSaidSo) {
  ASSERT_TRUE(train(path(), {}).has_value());
  std::vector<std::string> told;
  TrainOptions less{.resume = true, .steps = 4};
  less.tell = [&](std::string_view sentence) { told.emplace_back(sentence); };
  const auto again = train(path(), less);
  ASSERT_TRUE(again.has_value()) << again.error().message;
  EXPECT_THAT(told,
              ::testing::ElementsAre("step 6 is reached already and the run ends at 4: no step is left to train"));
}

}  // namespace loop_test
}  // namespace fovea::train
