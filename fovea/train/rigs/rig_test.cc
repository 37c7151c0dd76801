#include "fovea/train/rigs/rig.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>

#include "fovea/base/file.h"
#include "fovea/base/json.h"
#include "fovea/train/config.h"
#include "fovea/train/learner.h"
#include "fovea/train/optimizer.h"
#include "fovea/train/schedule.h"
#include "fovea/train/trained_net.h"

namespace fovea::train {
namespace rig_test {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

constexpr std::string_view kCopies = R"({
  "model": {"net": "llama", "d_model": 16, "n_layers": 1, "n_heads": 2, "vocab_size": 12},
  "data": {"generator": "copy"}, "context": 8, "steps": 6, "checkpoint_every": 2, "seed": 1,
  "eval": {"data": {"generator": "copy"}, "every": 3, "samples": 3}})";
FOVEA_RIG(easy, "test-easy", "a test's", 1, 100, kCopies);
FOVEA_RIG(hard, "test-hard", "a test's that nothing reaches", 1, 0, kCopies);

Result<Measures> one_half(const std::string& folder, const std::atomic<bool>*) {
  return Measures{{"half", fs::exists(folder + "/model.safetensors") ? 0.5 : 0}};
}
FOVEA_RIG(measured, "test-measured", "a test's that measures", 1, 100, kCopies, one_half, {{"half", 0.5}});
FOVEA_RIG(low, "test-low", "a test's that measures too little", 1, 100, kCopies, one_half, {{"half", 0.6}});

constexpr std::string_view kTowers = R"({
  "model": {"net": "two-tower", "size": 16, "patch": 8, "vocab_size": 17, "d_model": 16, "n_layers": 1, "n_heads": 2},
  "data": {"generator": "scenes", "size": 16}, "context": 3, "batch": 2, "steps": 2,
  "eval": {"data": {"generator": "scenes", "size": 16}, "every": 2, "samples": 2}})";
constexpr std::string_view kOnTowers = R"({
  "model": {"net": "vlm", "size": 16, "patch": 8, "vocab_size": 17, "d_model": 16, "n_layers": 1, "n_heads": 2,
            "init": {"rig": "test-towers", "tensors": ["vision.*"]}},
  "trainable": ["*", "!vision.*"],
  "data": {"generator": "scenes", "size": 16}, "context": 3, "steps": 1,
  "eval": {"data": {"generator": "scenes", "size": 16}, "every": 1, "samples": 1}})";
FOVEA_RIG(towers, "test-towers", "a test's", 1, 100, kTowers);
FOVEA_RIG(on_towers, "test-on-towers", "a test's that begins from another", 1, 100, kOnTowers);

class Rigs : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = ::testing::TempDir() + "/rigs-XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder_ = name;
    if (const char* before = std::getenv("FOVEA_MODELS")) before_ = before;
    setenv("FOVEA_MODELS", folder_.c_str(), 1);
  }
  void TearDown() override {
    before_ ? setenv("FOVEA_MODELS", before_->c_str(), 1) : unsetenv("FOVEA_MODELS");
    fs::remove_all(folder_);
  }
  std::string folder_;
  std::optional<std::string> before_;
};

TEST_F(Rigs, AreTrainedOnce) {
  const auto first = make_rig("test-easy", {});
  ASSERT_TRUE(first.has_value()) << first.error().message;
  EXPECT_TRUE(first->trained);
  EXPECT_THAT(first->path, HasSubstr(folder_ + "/rigs/test-easy-"));
  EXPECT_TRUE(fs::exists(first->path + "/model.safetensors"));
  const auto written = fs::last_write_time(first->path + "/model.safetensors");
  const auto second = make_rig("test-easy", {});
  ASSERT_TRUE(second.has_value()) << second.error().message;
  EXPECT_FALSE(second->trained);
  EXPECT_EQ(second->path, first->path);
  EXPECT_EQ(second->reached, first->reached);
  EXPECT_EQ(fs::last_write_time(first->path + "/model.safetensors"), written);
  // Another program makes its own.
  const auto other = make_rig("test-easy", {.program = "another"});
  ASSERT_TRUE(other.has_value()) << other.error().message;
  EXPECT_NE(other->path, first->path);
  EXPECT_EQ(other->reached, first->reached);
}

TEST_F(Rigs, WhatDoesNotReachItsGateIsNoRigNowAndLater) {
  for (int time = 0; time < 2; ++time) {
    const auto made = make_rig("test-hard", {});
    ASSERT_FALSE(made.has_value());
    EXPECT_EQ(made.error().code, ErrorCode::kFailed);
    EXPECT_THAT(made.error().message, HasSubstr("and 0.0000 is required"));
  }
}

TEST_F(Rigs, MeasureTheirModelsOnceAndRememberIt) {
  for (int time = 0; time < 2; ++time) {
    const auto made = make_rig("test-measured", {});
    ASSERT_TRUE(made.has_value()) << made.error().message;
    EXPECT_EQ(made->trained, time == 0);
    EXPECT_THAT(made->measures, ::testing::ElementsAre(::testing::Pair("half", 0.5)));
    const auto low = make_rig("test-low", {});
    ASSERT_FALSE(low.has_value());
    EXPECT_EQ(low.error().code, ErrorCode::kFailed);
    EXPECT_THAT(low.error().message, HasSubstr("its half is 0.5000, and 0.6000 or more is required"));
  }
}

TEST_F(Rigs, ARecordWithoutItsMeasuresIsMadeAnew) {
  const auto made = make_rig("test-measured", {});
  ASSERT_TRUE(made.has_value()) << made.error().message;
  const std::string record = fs::path(made->path).parent_path().string() + "/rig.json";
  ASSERT_TRUE(write_file_atomic(record, R"({"reached": 1, "minutes": 1})").has_value());
  const auto again = make_rig("test-measured", {});
  ASSERT_TRUE(again.has_value()) << again.error().message;
  EXPECT_TRUE(again->trained);
  EXPECT_EQ(again->measures, made->measures);
}

TEST_F(Rigs, GoOnWhereTheyWereBrokenOff) {
  std::atomic<bool> cancel{false};
  TrainOptions options{.cancel = &cancel};
  options.on_step = [&](const StepReport& at) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    cancel = at.step == 3;
  };
  const auto broken = make_rig("test-easy", options);
  ASSERT_FALSE(broken.has_value());
  EXPECT_EQ(broken.error().code, ErrorCode::kCancelled);
  EXPECT_THAT(broken.error().message, HasSubstr("go on with: fovea rig test-easy"));
  cancel = false;
  int64_t first_step = 0;
  options.on_step = [&](const StepReport& at) { first_step = first_step == 0 ? at.step : first_step; };
  const auto made = make_rig("test-easy", options);
  ASSERT_TRUE(made.has_value()) << made.error().message;
  EXPECT_GT(first_step, 1);
  EXPECT_GE(made->minutes, 0.06 / 60) << "those of the run that was broken off are forgotten";
  const auto whole = make_rig("test-easy", {.program = "another"});
  ASSERT_TRUE(whole.has_value()) << whole.error().message;
  EXPECT_EQ(made->reached, whole->reached);
}

TEST_F(Rigs, MayBeginFromAnotherWhichIsMadeFirst) {
  const auto made = make_rig("test-on-towers", {});
  ASSERT_TRUE(made.has_value()) << made.error().message;
  const auto other = make_rig("test-towers", {});
  ASSERT_TRUE(other.has_value()) << other.error().message;
  EXPECT_FALSE(other->trained);
  const auto cls_of = [](const std::string& folder) {
    const auto net = open_net(folder);
    EXPECT_TRUE(net.has_value()) << net.error().message;
    for (const Param& param : (*net)->params()) {
      if (param.name == "vision.cls")
        return std::vector<float>(param.value.values().begin(), param.value.values().end());
    }
    return std::vector<float>();
  };
  EXPECT_EQ(cls_of(made->path), cls_of(other->path));
  EXPECT_FALSE(cls_of(made->path).empty());
  const auto again = make_rig("test-on-towers", {});
  ASSERT_TRUE(again.has_value()) << again.error().message;
  EXPECT_FALSE(again->trained);
}

TEST_F(Rigs, AnUnknownNameIsSaidWithTheNearest) {
  EXPECT_THAT(make_rig("scene-cn", {}).error().message, HasSubstr("the nearest is scene-cnn"));
}

TEST_F(Rigs, ABrokenRecordOrCheckpointIsMadeAnew) {
  const auto made = make_rig("test-easy", {});
  ASSERT_TRUE(made.has_value()) << made.error().message;
  const fs::path folder = fs::path(made->path).parent_path();
  ASSERT_TRUE(write_file_atomic((folder / "rig.json").string(), "{}").has_value());
  for (const auto& entry : fs::directory_iterator(folder / "checkpoint")) fs::resize_file(entry.path(), 20);
  const auto again = make_rig("test-easy", {});
  ASSERT_TRUE(again.has_value()) << again.error().message;
  EXPECT_TRUE(again->trained);
  EXPECT_EQ(again->reached, made->reached);
}

TEST(RigConfigs, SayHowTheyAreMeasuredAndNotWhereTheyLie) {
  for (const auto& [name, rig] : rigs()) {
    const auto config = parse_json(rig.config, name);
    ASSERT_TRUE(config.has_value()) << config.error().message;
    EXPECT_FALSE(config->contains("out")) << name;
    ASSERT_TRUE(config->contains("eval")) << name;
    EXPECT_EQ((*config)["steps"].get<int64_t>() % (*config)["eval"]["every"].get<int64_t>(), 0) << name;
  }
}

// Texts of Debian's machines; elsewhere a rig that reads them says which one is missing.
bool has_its_texts(const nlohmann::ordered_json& config) {
  const auto flat = config.flatten();
  return std::all_of(flat.items().begin(), flat.items().end(), [](const auto& at) {
    return at.key().find("/text/") == std::string::npos || !at.value().is_string() ||
           fs::exists(at.value().template get<std::string>());
  });
}

// A rig's learner, as its config stands; what it begins from is that rig before any step.
Result<std::unique_ptr<Learner>> open_rig(const std::string& name, const std::string& folder) {
  auto config = parse_json(rigs().find(name)->second.config, name);
  if (!config) return config.error();
  auto& model = (*config)["model"];
  if (model.contains("init") && model["init"].contains("rig")) {
    const std::string other = model["init"]["rig"];
    auto first = open_rig(other, folder);
    if (!first) return first.error();
    fs::create_directories(folder + "/" + other);
    const auto saved = (*first)->save(folder + "/" + other, {});
    if (!saved) return saved.error();
    model["init"].erase("rig");
    model["init"]["folder"] = *saved;
  }
  (*config)["out"] = "unused";
  Settings settings(*config, name);
  const TrainConfig numbers(settings);
  Settings optimizer = settings.object("optimizer"), schedule = settings.object("schedule");
  (void)make_part<Optimizer>(optimizer, "name", optimizer.text("name", "adamw"));
  (void)make_part<Schedule>(schedule, "name", schedule.text("name", "constant"), {.steps = numbers.steps});
  return make_learner(settings, numbers);
}

TEST_F(Rigs, OpenAsTheirConfigsStand) {
  for (const auto& [name, rig] : rigs()) {
    const auto config = parse_json(rig.config, name);
    ASSERT_TRUE(config.has_value()) << config.error().message;
    if (!has_its_texts(*config)) continue;
    const auto learner = open_rig(name, folder_);
    ASSERT_TRUE(learner.has_value()) << learner.error().message;
    EXPECT_TRUE((*learner)->evaluates()) << name;
  }
}

}  // namespace rig_test
}  // namespace fovea::train
