#include "fovea/probe/measures/trained_columns.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>

#include "fovea/base/file.h"
#include "fovea/engine/head_profile.h"
#include "fovea/formats/source.h"
#include "fovea/models/testing/model_recipe.h"

namespace fovea::probe {
namespace trained_columns_test {

using attention::Granularity;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr const char* kProfile = R"({"version": 1, "model_sha256": "ab", "n_layers": 2, "n_heads": 2, "n_kv_heads": 2,
    "measured": {"samples": 7},
    "heads": [{"layer": 0, "head": 0, "retrieval": 0.5}, {"layer": 0, "head": 1, "retrieval": 0.25},
              {"layer": 1, "head": 0, "retrieval": 0.125}, {"layer": 1, "head": 1, "retrieval": 0}]})";

attention::ModelShape shape() {
  attention::ModelShape shape;
  shape.n_layers = 2, shape.n_heads = 2, shape.n_kv_heads = 2;
  return shape;
}

FoundProfile found() {
  auto heads = engine::parse_head_profile(kProfile, "p.json", shape());
  EXPECT_TRUE(heads.has_value()) << heads.error().message;
  return {"p.json", kProfile, std::make_shared<const attention::HeadProfile>(std::move(*heads))};
}

// A model file with this tensor, whose element i is i / 8.
std::shared_ptr<const formats::ModelSource> with(const std::string& tensor, const std::vector<uint64_t>& dims) {
  models::ModelRecipe recipe;
  recipe.tensors = {{tensor, dims}};
  const std::string path = ::testing::TempDir() + "trained-columns-" + std::to_string(getpid()) + ".gguf";
  const std::string bytes = recipe.build([](formats::GgufWriter& w) {
    for (size_t i = 0; 4 * i + 4 <= w.data().size(); ++i) {
      const float x = static_cast<float>(i) / 8;
      std::memcpy(w.data().data() + 4 * i, &x, 4);
    }
  });
  EXPECT_TRUE(write_file_atomic(path, bytes).has_value());
  auto source = formats::open_model(path);
  EXPECT_TRUE(source.has_value()) << source.error().message;
  std::filesystem::remove(path);  // it is mapped
  return *source;
}

TEST(TrainedColumns, StandInTheProfileBesideWhatWasMeasured) {
  const auto json = with_trained_columns(found(), *with("duo-attention.gate", {2, 2}));
  ASSERT_TRUE(json.has_value()) << json.error().message;
  const auto heads = engine::parse_head_profile(*json, "it", shape());
  ASSERT_TRUE(heads.has_value()) << heads.error().message;
  EXPECT_THAT(*heads->find("duo_gate", Granularity::kKvHead), ElementsAre(0, 0.125, 0.25, 0.375));
  EXPECT_THAT(*heads->find("retrieval"), ElementsAre(0.5, 0.25, 0.125, 0));
  EXPECT_EQ(heads->model_sha256, "ab");
  EXPECT_THAT(*json, HasSubstr("\"measured\": {\"samples\":7}"));
  EXPECT_TRUE(profile_columns().at("duo_gate").trained);
}

TEST(TrainedColumns, WhatHasNoneOrThoseOfAnotherModelIsRefused) {
  const auto none = with_trained_columns(found(), *with("output_norm.weight", {2}));
  ASSERT_FALSE(none.has_value());
  EXPECT_THAT(none.error().message, HasSubstr("it has no tensor duo-attention.gate"));
  const auto other = with_trained_columns(found(), *with("duo-attention.gate", {2, 3}));
  ASSERT_FALSE(other.has_value());
  EXPECT_THAT(other.error().message, HasSubstr("duo-attention.gate"));
}

}  // namespace trained_columns_test
}  // namespace fovea::probe
