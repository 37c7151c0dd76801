#include "fovea/models/support/weights.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fovea/base/threads.h"
#include "fovea/formats/gguf.h"
#include "fovea/models/testing/model_recipe.h"

namespace fovea::models {
namespace weights_test {

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
  const std::vector<Error> problems = bind_weights(*gguf, *bound.family);
  if (!problems.empty()) bound.status = problems[0];
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
  for (const tensor::Parameter& spec : bound.family->weights()) {
    if (spec.optional) continue;
    ASSERT_TRUE(spec.target->defined()) << spec.name;
    EXPECT_EQ(spec.target->name, spec.name);
    EXPECT_EQ(spec.target->cols(), spec.shape[0]) << spec.name;
    EXPECT_EQ(spec.target->rows(), spec.shape.size() == 2 ? spec.shape[1] : 1) << spec.name;
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
  recipe.set("llama.feed_forward_length", uint32_t{32});
  recipe.tensors["blk.0.ffn_gate.weight"] = recipe.tensors["blk.0.ffn_up.weight"] = {8, 32};
  recipe.tensors.erase("blk.0.ffn_down.weight");
  constexpr int32_t kQ8_1 = 9;
  const Bound bound = bind(recipe, [](GgufWriter& w) { w.tensor("blk.0.ffn_down.weight", {32, 8}, kQ8_1, 8 * 36); });
  expect_refused(bound, ErrorCode::kUnsupported, "blk.0.ffn_down.weight", "Q8_1");
}

TEST(BindWeights, EveryProblemIsSaid) {
  ModelRecipe recipe;
  recipe.tensors.erase("blk.0.attn_q.weight");
  recipe.tensors["blk.0.attn_k.weight"] = {4, 8};
  recipe.tensors["blk.0.attn_q_norm.weight"] = {4};
  recipe.tensors["blk.7.attn_q.weight"] = {8, 8};
  const std::string file = recipe.build();
  const auto gguf = Gguf::parse({reinterpret_cast<const std::byte*>(file.data()), file.size()}, "m.gguf");
  const auto family = make_family(read_config(*gguf).value());
  std::vector<std::string> places;
  for (const Error& problem : bind_weights(*gguf, *family)) places.push_back(problem.where);
  EXPECT_THAT(places, ::testing::UnorderedElementsAre("tensor blk.0.attn_q.weight", "tensor blk.0.attn_k.weight",
                                                      "tensor blk.0.attn_q_norm.weight", "llama.block_count"));
}

TEST(BindWeights, ATensorThatTheFamilyHasNoPlaceForIsNotLeftOut) {
  for (const char* name :
       {"blk.0.attn_sub_norm.weight", "blk.0.attn_k_norm.weight", "output.bias", "v.patch_embd.weight"}) {
    ModelRecipe recipe;
    recipe.tensors[name] = {8};
    expect_refused(bind(recipe), ErrorCode::kUnsupported, name, "the llama family here has no place for");
  }
  ModelRecipe two;
  two.tensors["blk.0.ffn_a.weight"] = two.tensors["blk.0.ffn_b.weight"] = {8};
  expect_refused(bind(two), ErrorCode::kUnsupported, "blk.0.ffn_a.weight", "and 1 more");
  const Bound factors = bind(ModelRecipe(), [](GgufWriter& w) {  // read with the configuration
    w.tensor("rope_freqs.weight", {2});
    w.data().replace(w.data().size() - 32, 8, GgufWriter::number(1.0f) + GgufWriter::number(8.0f));
  });
  EXPECT_TRUE(factors.status.has_value()) << factors.status.error().message;
}

TEST(BindWeights, BlocksThatTheMetadataDoNotCountAreRefused) {
  ModelRecipe recipe;
  for (const char* name : {"blk.1.attn_q.weight", "blk.1.ffn_up.weight", "blk.3.attn_q.weight"})
    recipe.tensors[name] = {8, 8};
  const Bound bound = bind(recipe);
  ASSERT_FALSE(bound.status.has_value());
  EXPECT_EQ(bound.status.error().where, "llama.block_count");
  EXPECT_THAT(bound.status.error().message, AllOf(HasSubstr("counts 1 blocks"), HasSubstr("2 more, blk.1 the first")));
}

TEST(InitWeights, MakesWhatTheTableSays) {
  const std::string file = ModelRecipe("qwen2").build();
  const auto gguf = Gguf::parse({reinterpret_cast<const std::byte*>(file.data()), file.size()}, "m.gguf");
  const auto family = make_family(read_config(*gguf).value());
  init_weights(*family, 7);
  const auto values = [](const tensor::Parameter& p) {
    const auto all = p.target->value.values();
    return std::vector<float>(all.begin(), all.end());
  };
  std::vector<std::vector<float>> first;
  for (const tensor::Parameter& p : family->weights()) {
    ASSERT_EQ(p.target->defined(), !p.optional) << p.name;
    if (p.optional) continue;
    EXPECT_EQ(p.target->name, p.name);
    EXPECT_EQ(p.target->cols(), p.shape[0]) << p.name;
    EXPECT_EQ(p.target->rows(), p.shape.size() == 2 ? p.shape[1] : 1) << p.name;
    first.push_back(values(p));
    const float largest = *std::ranges::max_element(first.back());
    if (p.shape.size() == 2) {
      EXPECT_TRUE(largest > 0 && largest < 0.1f) << p.name;  // 5 deviations of 0.02
    } else {
      EXPECT_EQ(first.back(), std::vector<float>(first.back().size(), p.name.ends_with("norm.weight") ? 1.0f : 0.0f))
          << p.name;
    }
  }
  EXPECT_NE(first[0], first[1]);
  const int threads = pool().size();
  set_threads(3);
  init_weights(*family, 7, /*with_optional=*/true);
  set_threads(threads);
  std::vector<std::vector<float>> second;
  for (const tensor::Parameter& p : family->weights()) {
    EXPECT_TRUE(p.target->defined()) << p.name;
    if (!p.optional) second.push_back(values(p));
  }
  EXPECT_EQ(second, first);
  init_weights(*family, 8);
  EXPECT_NE(values(family->weights()[0]), first[0]);
}

TEST(RegisterFamily, RefusesADoubleName) {
  EXPECT_THROW(register_family("llama", {}), CheckFailed);
  EXPECT_NE(make_family(Config{.architecture = "llama", .shape = {}, .norm_eps = 1, .ropes = {}}), nullptr);
}

TEST(MakeFamily, RefusesHeadsThatTheKernelsDoNotRun) {
  const std::string file = ModelRecipe().build();  // heads 4 wide
  const auto gguf = Gguf::parse({reinterpret_cast<const std::byte*>(file.data()), file.size()}, "m.gguf");
  const auto family = make_family(*gguf);
  ASSERT_FALSE(family.has_value());
  EXPECT_EQ(family.error().code, ErrorCode::kUnsupported);
  EXPECT_THAT(family.error().message, HasSubstr("4 wide; multiples of 8 up to 256"));
}

}  // namespace weights_test
}  // namespace fovea::models
