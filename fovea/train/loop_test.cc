#include "fovea/train/loop.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>

#include "fovea/base/file.h"
#include "fovea/base/testing/paths.h"

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
  EXPECT_THAT(told, ::testing::ElementsAre("goes on from step 3 of 6", HasSubstr(" parameters in 3 steps on ")));
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
  EXPECT_THAT(
      told, ::testing::ElementsAre(
                "step 6 is reached already and the run ends at 4: no step is left to train; greater \"steps\" go on"));
}

// Of a safetensors file, behind the metadata, which say how it was made.
std::string values(const std::string& path) {
  const std::string bytes = read_file(path).value();
  uint64_t n_header = 0;
  std::memcpy(&n_header, bytes.data(), sizeof(n_header));
  return bytes.substr(sizeof(n_header) + n_header);
}

TEST_F(Loop, TheLastStepIsEvaluatedWhereAStopCameBefore) {
  const auto whole = train(path(), {.steps = 3});
  ASSERT_TRUE(whole.has_value()) << whole.error().message;
  ASSERT_TRUE(whole->eval_loss.has_value());
  std::atomic<bool> stop{false};
  TrainOptions options{.restart = true};
  options.cancel = &stop;
  options.on_step = [&](const StepReport& step) { stop = step.step == 3; };
  ASSERT_FALSE(train(path(), options).has_value());
  const auto resumed = train(path(), {.resume = true, .steps = 3});
  ASSERT_TRUE(resumed.has_value()) << resumed.error().message;
  EXPECT_EQ(resumed->eval_loss, whole->eval_loss);
  const std::string log = read_file(folder_ + "/out/log.jsonl").value();
  EXPECT_EQ(std::count(log.begin(), log.end(), '\n'), 3);
  EXPECT_THAT(log, HasSubstr("\"eval_loss\""));
}

TEST_F(Loop, LossesOverOtherHeldOutDataDoNotCountForAnEarlyStop) {
  Json config = Json::parse(read_file(path()).value());
  config["eval"]["every"] = 1;
  config["early_stop"] = {{"patience", 2}, {"min_delta", 100}};  // the first loss stays the best
  config["steps"] = 2;
  ASSERT_TRUE(write_file_atomic(path(), config.dump()).has_value());
  ASSERT_TRUE(train(path(), {}).has_value());
  config["steps"] = 4;
  config["eval"]["data"]["seed"] = 99;
  ASSERT_TRUE(write_file_atomic(path(), config.dump()).has_value());
  const auto resumed = train(path(), {.resume = true});
  ASSERT_TRUE(resumed.has_value()) << resumed.error().message;
  EXPECT_EQ(resumed->step, 4);
}

TEST_F(Loop, WeightsThatAnOptimizerMadeNotFiniteAreNotSaved) {
  Json config = Json::parse(read_file(path()).value());
  config["optimizer"] = {{"name", "adamw"}, {"eps", 0}};  // rows of the vocabulary that were not read: 0 / 0
  config["steps"] = 1;
  ASSERT_TRUE(write_file_atomic(path(), config.dump()).has_value());
  const auto bad = train(path(), {});
  ASSERT_FALSE(bad.has_value());
  EXPECT_THAT(bad.error().message, HasSubstr("step 0: the optimizer left token_embd.weight with numbers that are not"));
  EXPECT_FALSE(fs::exists(folder_ + "/out/model"));
  EXPECT_FALSE(fs::exists(folder_ + "/out/checkpoint"));
}

TEST_F(Loop, WhatAKilledRunLeftIsTakenAway) {
  for (const char* left : {"log.jsonl.part-abcdef", "model.part-12", "kept/0/model.part-12"})
    fs::create_directories(folder_ + "/out/" + left);
  fs::create_directories(folder_ + "/out/model-of-mine");
  ASSERT_TRUE(train(path(), {.steps = 2}).has_value());
  ASSERT_TRUE(train(path(), {.resume = true}).has_value());
  for (const auto& entry : fs::recursive_directory_iterator(folder_ + "/out"))
    EXPECT_EQ(entry.path().string().find(".part-"), std::string::npos) << entry.path();
  EXPECT_TRUE(fs::exists(folder_ + "/out/model-of-mine"));
}

TEST_F(Loop, AStateThatWasChangedIsRefused) {
  ASSERT_TRUE(train(path(), {.steps = 2}).has_value());
  const std::string state = folder_ + "/out/checkpoint/state.json", log = folder_ + "/out/log.jsonl";
  const Json whole = Json::parse(read_file(state).value());
  const auto problem = [&](const char* key, const Json& value, bool hashed) {
    Json changed = whole;
    changed[key] = value;
    if (value.is_null()) changed.erase(key);
    if (!hashed) changed.erase("state_sha256");  // as an earlier program wrote it
    EXPECT_TRUE(write_file_atomic(state, changed.dump()).has_value());
    const auto resumed = train(path(), {.resume = true});
    return resumed ? "" : resumed.error().message;
  };
  for (const bool hashed : {true, false}) {
    EXPECT_THAT(problem("step", "2", hashed), HasSubstr("was cut or changed"));
    EXPECT_THAT(problem("step", -2, hashed), HasSubstr("was cut or changed"));
    EXPECT_THAT(problem("step", nullptr, hashed), HasSubstr("was cut or changed"));
    EXPECT_THAT(problem("version", 2, hashed), HasSubstr("a checkpoint of version 2"));
  }
  EXPECT_THAT(problem("step", 3, true), HasSubstr("was cut or changed"));
  EXPECT_THAT(problem("config", nullptr, false), HasSubstr("config is missing"));
  EXPECT_THAT(problem("data", 3, false), HasSubstr("data is missing"));
  ASSERT_TRUE(write_file_atomic(log, "{\"step\": \"x\"}\n[1]\n").has_value());
  EXPECT_EQ(problem("step", 2, true), "");
}

TEST_F(Loop, OfAChangedContextItIsSaidSo) {
  ASSERT_TRUE(train(path(), {.steps = 2}).has_value());
  Json config = Json::parse(read_file(path()).value());
  config["context"] = 6, config["model"]["n_ctx"] = 8;
  ASSERT_TRUE(write_file_atomic(path(), config.dump()).has_value());
  EXPECT_THAT(train(path(), {.resume = true}).error().message, HasSubstr("is of another config: "));
}

// All experts of a layer have one name.
TEST_F(Loop, GoesOnWithExperts) {
  Json config = Json::parse(read_file(path()).value());
  config["model"] = {{"net", "gpt-oss"}, {"d_model", 16},    {"n_layers", 1},  {"n_heads", 2},
                     {"d_ff", 24},       {"vocab_size", 32}, {"n_experts", 3}, {"n_used", 2}};
  config["ema"] = 0.5;
  ASSERT_TRUE(write_file_atomic(path(), config.dump()).has_value());
  const auto whole = train(path(), {});
  ASSERT_TRUE(whole.has_value()) << whole.error().message;
  const std::string weights = values(whole->model + "/model.safetensors");
  ASSERT_TRUE(train(path(), {.restart = true, .steps = 3}).has_value());
  EXPECT_NE(values(whole->model + "/model.safetensors"), weights);
  const auto resumed = train(path(), {.resume = true});
  ASSERT_TRUE(resumed.has_value()) << resumed.error().message;
  EXPECT_EQ(values(resumed->model + "/model.safetensors"), weights);
}

// What is no weight goes on with the bits of an unbroken run too.
TEST_F(Loop, GoesOnWithASoftPrompt) {
  Json config = Json::parse(read_file(path()).value());
  config["model"] = source_dir() + "/tests/data/tiny-llama.gguf";
  config["trainable"] = {{"soft_prompt", {{"tokens", 3}}}};
  config["batch"] = 2, config["ema"] = 0.5;
  ASSERT_TRUE(write_file_atomic(path(), config.dump()).has_value());
  const auto whole = train(path(), {});
  ASSERT_TRUE(whole.has_value()) << whole.error().message;
  const std::string rows = values(whole->model);
  const auto part = train(path(), {.restart = true, .steps = 3});
  ASSERT_TRUE(part.has_value()) << part.error().message;
  EXPECT_NE(values(part->model), rows);
  const auto resumed = train(path(), {.resume = true});
  ASSERT_TRUE(resumed.has_value()) << resumed.error().message;
  EXPECT_EQ(values(resumed->model), rows);
  EXPECT_EQ(resumed->eval_loss, whole->eval_loss);
  config["losses"] = {{{"name", "distill-hidden"}, {"teacher", config["model"]}, {"layers", {0}}}};
  ASSERT_TRUE(write_file_atomic(path(), config.dump()).has_value());
  EXPECT_THAT(train(path(), {.restart = true}).error().message, HasSubstr("losses[0].layers compares rows"));
  config["losses"] = {{{"name", "distill"}, {"teacher", config["model"]}}};
  ASSERT_TRUE(write_file_atomic(path(), config.dump()).has_value());
  const auto distilled = train(path(), {.restart = true});
  EXPECT_TRUE(distilled.has_value()) << distilled.error().message;
}

TEST_F(Loop, GoesOnWithMixedData) {
  Json config = Json::parse(read_file(path()).value());
  config["data"] = {{"mix", {{{"generator", "copy"}, {"weight", 2}}, {{"generator", "induction"}, {"length", 3}}}}};
  ASSERT_TRUE(write_file_atomic(path(), config.dump()).has_value());
  const auto whole = train(path(), {});
  ASSERT_TRUE(whole.has_value()) << whole.error().message;
  const std::string weights = values(whole->model + "/model.safetensors");
  const auto part = train(path(), {.restart = true, .steps = 3});
  ASSERT_TRUE(part.has_value()) << part.error().message;
  EXPECT_NE(values(part->model + "/model.safetensors"), weights);
  const auto resumed = train(path(), {.resume = true});
  ASSERT_TRUE(resumed.has_value()) << resumed.error().message;
  EXPECT_EQ(values(resumed->model + "/model.safetensors"), weights);
  EXPECT_EQ(resumed->eval_loss, whole->eval_loss);
}

TEST_F(Loop, LearnsMasksAndGoesOnWithThem) {
  Json config = Json::parse(read_file(path()).value());
  config["model"] = source_dir() + "/tests/data/tiny-llama.gguf";
  config["trainable"] = {{"masks", {{"targets", {"blk.*.ffn_*"}}, {"init", 0.6}}}};
  config["losses"] = {{{"name", "next-token"}}, {{"name", "l0"}, {"weight", 2}}};
  config["optimizer"] = {{"name", "adamw"}, {"lr", 0.1}, {"weight_decay", 0}};
  ASSERT_TRUE(write_file_atomic(path(), config.dump()).has_value());
  std::vector<double> losses;
  TrainOptions options;
  options.on_step = [&](const StepReport& step) { losses.push_back(step.loss); };
  const auto whole = train(path(), options);
  ASSERT_TRUE(whole.has_value()) << whole.error().message;
  EXPECT_LT(losses.back(), losses.front());
  const std::string masks = values(whole->model);
  EXPECT_NE(masks.find(std::string(8, '\0')), masks.npos);  // some are gone
  ASSERT_TRUE(train(path(), {.restart = true, .steps = 3}).has_value());
  const auto resumed = train(path(), {.resume = true});
  ASSERT_TRUE(resumed.has_value()) << resumed.error().message;
  EXPECT_EQ(values(resumed->model), masks);
  config["trainable"] = {{"lora", Json::object()}};
  ASSERT_TRUE(write_file_atomic(path(), config.dump()).has_value());
  EXPECT_THAT(train(path(), {.restart = true}).error().message, HasSubstr("losses[1].name is l0, and no masks"));
}

}  // namespace loop_test
}  // namespace fovea::train
