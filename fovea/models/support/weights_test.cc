#include "fovea/models/support/weights.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fovea/models/support/model_recipe.h"

namespace fovea::models {
namespace {

using formats::Gguf;
using formats::GgufWriter;
using ::testing::AllOf;
using ::testing::HasSubstr;

struct Bound {
  std::string file;  // the weights point into it
  std::unique_ptr<Family> family;
  Status status;
};

Bound bind(const ModelRecipe& recipe, const std::function<void(GgufWriter&)>& finish = {}) {
  Bound bound{.file = recipe.build(finish), .family = nullptr, .status = {}};
  const auto gguf = Gguf::parse({reinterpret_cast<const std::byte*>(bound.file.data()), bound.file.size()}, "m.gguf");
  EXPECT_TRUE(gguf.has_value()) << gguf.error().message;
  const auto config = read_config(*gguf);
  EXPECT_TRUE(config.has_value()) << config.error().message;
  bound.family = make_family(*config);
  bound.status = bind_weights(*gguf, *bound.family);
  return bound;
}

void expect_refused(const Bound& bound, ErrorCode code, const std::string& tensor, const std::string& part) {
  ASSERT_FALSE(bound.status.has_value()) << tensor << " was accepted";
  const Error& error = bound.status.error();
  EXPECT_STREQ(name_of(error.code), name_of(code)) << error.message;
  EXPECT_EQ(error.where, "tensor " + tensor);
  EXPECT_THAT(error.message, AllOf(HasSubstr("m.gguf"), HasSubstr(tensor), HasSubstr(part)));
}

TEST(BindWeights, PointsEveryWeightAtItsBytesWithItsShape) {
  const Bound bound = bind(ModelRecipe());
  ASSERT_TRUE(bound.status.has_value()) << bound.status.error().message;
  for (const WeightSpec& spec : bound.family->weights()) {
    if (spec.name == "output.weight") continue;
    ASSERT_TRUE(spec.target->defined()) << spec.name;
    EXPECT_EQ(spec.target->name, spec.name);
    EXPECT_EQ(spec.target->cols(), spec.dims[0]) << spec.name;
    EXPECT_EQ(spec.target->rows(), spec.dims.size() == 2 ? spec.dims[1] : 1) << spec.name;
    const auto* at = static_cast<const char*>(spec.target->view.data);
    EXPECT_TRUE(at >= bound.file.data() && at < bound.file.data() + bound.file.size()) << spec.name;
  }
}

TEST(BindWeights, AnOptionalTensorMayBeAbsentButNotMisshapen) {
  ModelRecipe untied;
  untied.tensors["output.weight"] = {8, 4};
  EXPECT_TRUE(bind(untied).status.has_value());
  untied.tensors["output.weight"] = {4, 8};
  expect_refused(bind(untied), ErrorCode::kData, "output.weight", "[8, 4]");
}

TEST(BindWeights, C3_AMissingTensorIsNamedWithTheShapeItShouldHave) {
  for (const auto& entry : ModelRecipe().tensors) {
    ModelRecipe recipe;
    recipe.tensors.erase(entry.first);
    expect_refused(bind(recipe), ErrorCode::kData, entry.first, "missing");
  }
}

TEST(BindWeights, C3_ATransposedTensorIsNamedWithBothShapes) {
  ModelRecipe recipe;
  recipe.tensors["blk.0.ffn_down.weight"] = {8, 4};
  expect_refused(bind(recipe), ErrorCode::kData, "blk.0.ffn_down.weight",
                 "is [8, 4], but the metadata asks for [4, 8]");
}

TEST(BindWeights, C3_AVocabularyOfAnotherSizeThanTheEmbedding) {
  ModelRecipe recipe;
  recipe.set("tokenizer.ggml.tokens", std::vector<std::string>{"a", "b", "ab", "<e>", "c"});
  expect_refused(bind(recipe), ErrorCode::kData, "token_embd.weight", "[8, 5]");
}

TEST(BindWeights, ATypeThatCannotBeMultipliedIsNamed) {
  ModelRecipe recipe;
  recipe.tensors.erase("blk.0.attn_norm.weight");
  constexpr int32_t kI32 = 26;
  const Bound bound = bind(recipe, [](GgufWriter& w) { w.tensor("blk.0.attn_norm.weight", {8}, kI32); });
  expect_refused(bound, ErrorCode::kUnsupported, "blk.0.attn_norm.weight", "I32");
}

}  // namespace
}  // namespace fovea::models
