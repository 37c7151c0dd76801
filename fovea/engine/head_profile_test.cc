#include "fovea/engine/head_profile.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "fovea/base/file.h"
#include "fovea/base/testing/paths.h"

namespace fovea::engine {
namespace head_profile_test {

using attention::Granularity;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

attention::ModelShape shape() {
  attention::ModelShape shape;
  shape.n_layers = 1;
  shape.n_heads = 2;
  return shape;
}

TEST(HeadProfile, ReadsTheValuesOfEveryHead) {
  const auto profile = parse_head_profile(
      R"({"version": 1, "model_sha256": "ab", "made_by": "x",
          "heads": [{"layer": 0, "head": 1, "retrieval": 0.5, "sink": 0, "note": "y"}, {"layer": 0, "head": 0, "retrieval": 0.25, "sink": 1}]})",
      "p", shape());
  ASSERT_TRUE(profile.has_value()) << profile.error().message;
  EXPECT_EQ(profile->model_sha256, "ab");
  EXPECT_THAT(*profile->find("retrieval"), ElementsAre(0.25, 0.5));
  EXPECT_THAT(*profile->find("sink"), ElementsAre(1, 0));
}

TEST(HeadProfile, AColumnWithoutANumberForAHeadIsRefused) {
  for (const char* value : {"", R"(, "sink": null)", R"(, "sink": "0.5")", R"(, "sink": true)"}) {
    const auto profile = parse_head_profile(
        std::string(R"({"version": 1, "model_sha256": "ab", "heads": [{"layer": 0, "head": 0, "sink": 1},
                       {"layer": 0, "head": 1)") +
            value + "}]}",
        "p", shape());
    ASSERT_FALSE(profile.has_value()) << value;
    EXPECT_THAT(profile.error().message, HasSubstr("\"sink\" of layer 0, head 1"));
  }
}

constexpr const char* kAll = R"({"version": 1, "model_sha256": "ab",
    "heads": [{"layer": 0, "head": 0, "x": 1}, {"layer": 0, "head": 1, "x": 2},
              {"layer": 1, "head": 0, "x": 3}, {"layer": 1, "head": 1, "x": 4}],
    "kv_heads": [{"layer": 1, "kv_head": 0, "group": 6}, {"layer": 0, "kv_head": 0, "group": 5, "none": null}],
    "layers": [{"layer": 0, "entropy": 7}, {"layer": 1, "entropy": 8}],
    "model": {"loss": 9, "made_by": "x"}})";

attention::ModelShape two_layers() {
  attention::ModelShape two = shape();
  two.n_layers = 2, two.n_kv_heads = 1;
  return two;
}

TEST(HeadProfile, ReadsColumnsOfKvHeadsLayersAndTheModel) {
  const auto profile = parse_head_profile(kAll, "p", two_layers());
  ASSERT_TRUE(profile.has_value()) << profile.error().message;
  EXPECT_EQ(profile->columns.size(), 4u);
  EXPECT_THAT(*profile->find("x"), ElementsAre(1, 2, 3, 4));
  EXPECT_THAT(*profile->find("group", Granularity::kKvHead), ElementsAre(5, 6));
  EXPECT_THAT(*profile->find("entropy", Granularity::kLayer), ElementsAre(7, 8));
  EXPECT_THAT(*profile->find("loss", Granularity::kModel), ElementsAre(9));
  EXPECT_EQ(profile->find("entropy"), nullptr);  // not of heads
  EXPECT_EQ(profile->find("none", Granularity::kKvHead), nullptr);
}

TEST(HeadProfile, EveryListMustFitTheModel) {
  const auto problem = [](const std::string& part, const std::string& instead) {
    std::string text = kAll;
    text.replace(text.find(part), part.size(), instead);
    const auto profile = parse_head_profile(text, "p.json", two_layers());
    return profile ? "accepted" : profile.error().message;
  };
  EXPECT_THAT(problem(R"("kv_head": 0, "group": 6)", R"("kv_head": 1)"),
              HasSubstr("kv_heads[0].kv_head must be a whole number in 0 to 0"));
  EXPECT_THAT(problem(R"("layer": 1, "entropy")", R"("layer": 0, "entropy")"), HasSubstr("layers[1] is layer 0 again"));
  EXPECT_THAT(problem(R"({"layer": 0, "entropy": 7},)", ""), HasSubstr("it has 1 layers"));
  EXPECT_THAT(problem(R"({"loss": 9, "made_by": "x"})", "[]"), HasSubstr("model must be an object"));
  EXPECT_THAT(problem("entropy", "x"), HasSubstr("\"x\" is given for two kinds"));
  EXPECT_THAT(problem(R"("heads")", R"("n_layers": 30, "heads")"), HasSubstr("n_layers is 30; this model has 2"));
}

TEST(HeadProfile, WhatIsNoneIsRefusedByNameAndKey) {
  const auto problem = [](const std::string& text) {
    const auto profile = parse_head_profile(text, "p.json", shape());
    return profile ? "accepted" : profile.error().message;
  };
  EXPECT_THAT(problem(""), HasSubstr("p.json, line 1, column 1: not JSON"));
  EXPECT_THAT(problem("[1]"), HasSubstr("not a head profile"));
  EXPECT_THAT(problem(R"({"version": 2})"), HasSubstr("version must be 1"));
  EXPECT_THAT(problem(R"({"version": 1})"), HasSubstr("model_sha256"));
  const auto heads = [](const std::string& list) {
    return R"({"version": 1, "model_sha256": "", "heads": )" + list + "}";
  };
  EXPECT_THAT(problem(heads("{}")), HasSubstr("heads must be a list"));
  EXPECT_THAT(problem(heads("[]")), HasSubstr("it has 0 heads"));
  EXPECT_THAT(problem(heads("[1, 2]")), HasSubstr("heads[0] must be an object"));
  EXPECT_THAT(problem(heads(R"([{"layer": 0, "head": 2}, {}])")),
              HasSubstr("heads[0].head must be a whole number in 0 to 1"));
  EXPECT_THAT(problem(heads(R"([{"layer": 0.5, "head": 0}, {}])")), HasSubstr("heads[0].layer"));
  EXPECT_THAT(problem(heads(R"([{"layer": 0, "head": 0}, {"layer": 0, "head": 0}])")),
              HasSubstr("heads[1] is layer 0 head 0 again"));
}

TEST(HeadProfile, ADifferentModelFileIsRefused) {
  const auto model = Model::load(source_dir() + "/tests/data/tiny-llama.gguf");
  ASSERT_TRUE(model.has_value()) << model.error().message;
  std::string heads;
  for (int l = 0; l < 2; ++l) {
    for (int h = 0; h < 4; ++h)
      heads += fmt::format(R"({}{{"layer": {}, "head": {}}})", heads.empty() ? "" : ", ", l, h);
  }
  const std::string path = ::testing::TempDir() + "/profile-" + std::to_string(getpid()) + ".json";
  const auto write = [&](const std::string& sha256) {
    return write_file_atomic(path,
                             fmt::format(R"({{"version": 1, "model_sha256": "{}", "heads": [{}]}})", sha256, heads));
  };
  ASSERT_TRUE(write("00").has_value());
  const auto wrong = read_head_profile(path, **model);
  ASSERT_FALSE(wrong.has_value());
  EXPECT_THAT(wrong.error().message, HasSubstr("another model file"));
  ASSERT_TRUE(write(model.value()->sha256().value()).has_value());
  const auto right = read_head_profile(path, **model);
  EXPECT_TRUE(right.has_value()) << right.error().message;
}

}  // namespace head_profile_test
}  // namespace fovea::engine
