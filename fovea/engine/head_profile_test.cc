#include "fovea/engine/head_profile.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fovea/base/file.h"
#include "fovea/base/testing/paths.h"

namespace fovea::engine {
namespace {

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
          "heads": [{"layer": 0, "head": 1, "retrieval": 0.5, "note": "y"}, {"layer": 0, "head": 0, "retrieval": 0.25, "sink": 1}]})",
      "p", shape());
  ASSERT_TRUE(profile.has_value()) << profile.error().message;
  EXPECT_EQ(profile->model_sha256, "ab");
  EXPECT_THAT(profile->values.at("retrieval"), ElementsAre(0.25, 0.5));
  EXPECT_THAT(profile->values.at("sink"), ElementsAre(1, 0));
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
  const std::string path = ::testing::TempDir() + "/profile.json";
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

}  // namespace
}  // namespace fovea::engine
