#include "fovea/models/support/post_norm.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fovea/formats/gguf.h"
#include "fovea/models/testing/model_recipe.h"

namespace fovea::models {
namespace post_norm_test {

using ::testing::HasSubstr;

Result<Config> config_of(const ModelRecipe& recipe) {
  const std::string file = recipe.build();
  const auto gguf = formats::Gguf::parse({reinterpret_cast<const std::byte*>(file.data()), file.size()}, "m.gguf");
  if (!gguf) return gguf.error();
  return read_config(*gguf);
}

TEST(ReadEncoder, EveryTokenSeesEveryOther) {
  const auto config = config_of(ModelRecipe("bert").set("bert.attention.causal", false));
  ASSERT_TRUE(config.has_value()) << config.error().message;
  EXPECT_FALSE(config->shape.site(0).causal);
  EXPECT_EQ(config->shape.site(0).ahead(), INT_MAX);
  EXPECT_EQ(config->n_token_types, 2);  // what the models have where nothing says so
}

TEST(ReadEncoder, ACausalOneIsRefused) {
  const auto config = config_of(ModelRecipe("bert").set("bert.attention.causal", true));
  ASSERT_FALSE(config.has_value());
  EXPECT_EQ(config.error().code, ErrorCode::kUnsupported);
  EXPECT_THAT(config.error().message, HasSubstr("bert.attention.causal"));
}

TEST(ReadEncoder, TheNumberOfSegmentsIsThatOfTheFile) {
  ModelRecipe recipe("bert");
  recipe.set("tokenizer.ggml.token_type_count", uint32_t{5});
  EXPECT_EQ(config_of(recipe)->n_token_types, 5);
  recipe.set("tokenizer.ggml.token_type_count", uint32_t{0});
  const auto none = config_of(recipe);
  ASSERT_FALSE(none.has_value());
  EXPECT_THAT(none.error().message, HasSubstr("token_type_count"));
}

TEST(PostNormEncoder, HooksOfAGateAreThereWithAGateAlone) {
  const auto plain = make_family(*config_of(ModelRecipe("bert"))),
             gated = make_family(*config_of(ModelRecipe("nomic-bert")));
  const auto has = [](const Family& family, const char* name) {
    const auto names = family.hooks().names();
    return std::count(names.begin(), names.end(), name) == 1;
  };
  EXPECT_FALSE(has(*plain, "blocks.0.mlp.hook_pre_linear"));
  EXPECT_TRUE(has(*gated, "blocks.0.mlp.hook_pre_linear"));
  EXPECT_TRUE(has(*plain, "hook_pos_embed"));
  EXPECT_FALSE(has(*gated, "hook_pos_embed"));
}

}  // namespace post_norm_test
}  // namespace fovea::models
