#include "fovea/models/support/layers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fovea/formats/gguf.h"
#include "fovea/models/family.h"
#include "fovea/models/testing/model_recipe.h"

namespace fovea::models {
namespace layers_test {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Four layers of an architecture, whose tensors are not looked at here.
Result<Config> config_of(ModelRecipe recipe, const std::string& architecture) {
  recipe.set(architecture + ".block_count", uint32_t{4});
  const std::string file = recipe.build();
  const auto gguf = formats::Gguf::parse({reinterpret_cast<const std::byte*>(file.data()), file.size()}, "m.gguf");
  if (!gguf) return gguf.error();
  return read_config(*gguf);
}
std::vector<int> windows(const Result<Config>& config) {
  std::vector<int> out;
  EXPECT_TRUE(config.has_value()) << config.error().message;
  for (int l = 0; config && l < config->shape.n_layers; ++l) {
    const int window = config->shape.site(l).window;
    out.push_back(window == INT_MAX ? 0 : window);
  }
  return out;
}

TEST(Windows, AreThoseOfTheFamilyUnlessTheFileNamesLayers) {
  ModelRecipe mistral("mistral"), gemma("gemma2");
  EXPECT_THAT(windows(config_of(mistral, "mistral")), ElementsAre(0, 0, 0, 0));
  mistral.set("mistral.attention.sliding_window", uint32_t{7});
  EXPECT_THAT(windows(config_of(mistral, "mistral")), ElementsAre(7, 7, 7, 7));
  EXPECT_THAT(windows(config_of(gemma, "gemma2")), ElementsAre(4096, 0, 4096, 0));
  gemma.set("gemma2.attention.sliding_window", uint32_t{7});
  EXPECT_THAT(windows(config_of(gemma, "gemma2")), ElementsAre(7, 0, 7, 0));
  gemma.set("gemma2.attention.sliding_window_pattern", uint32_t{3});
  EXPECT_THAT(windows(config_of(gemma, "gemma2")), ElementsAre(7, 7, 0, 7));
  gemma.set("gemma2.attention.sliding_window_pattern", std::vector<int32_t>{0, 1, 1, 0});
  EXPECT_THAT(windows(config_of(gemma, "gemma2")), ElementsAre(0, 7, 7, 0));
  gemma.set("gemma2.attention.layer_types",
            std::vector<std::string>{"full_attention", "full_attention", "full_attention", "sliding_attention"});
  EXPECT_THAT(windows(config_of(gemma, "gemma2")), ElementsAre(0, 0, 0, 7));
}

TEST(Windows, LayersOfAnotherKindOrNumberAreRefused) {
  ModelRecipe recipe("mistral");
  recipe.set("mistral.attention.layer_types", std::vector<std::string>(4, "chunked_attention"));
  const auto chunked = config_of(recipe, "mistral");
  ASSERT_FALSE(chunked.has_value());
  EXPECT_EQ(chunked.error().code, ErrorCode::kUnsupported);
  EXPECT_THAT(chunked.error().message, HasSubstr("chunked_attention"));
  recipe.set("mistral.attention.layer_types", std::vector<std::string>(3, "full_attention"));
  EXPECT_THAT(config_of(recipe, "mistral").error().message, HasSubstr("has 3 values; 4 are needed"));
}

TEST(NoRope, EveryFourthLayerOrThoseThatTheFileNames) {
  const auto turned = [](const Result<Config>& config) {
    std::vector<bool> out;
    for (int l = 0; l < 4; ++l) out.push_back(config->shape.site(l).rope != attention::AttentionShape::kNoRope);
    return out;
  };
  ModelRecipe recipe("smollm3");
  EXPECT_THAT(turned(config_of(recipe, "smollm3")), ElementsAre(true, true, true, false));
  recipe.set("smollm3.no_rope_layer_interval", uint32_t{2});
  EXPECT_THAT(turned(config_of(recipe, "smollm3")), ElementsAre(true, false, true, false));
  recipe.set("smollm3.no_rope_layers", std::vector<int32_t>{0, 1, 1, 1});
  EXPECT_THAT(turned(config_of(recipe, "smollm3")), ElementsAre(false, true, true, true));
}

TEST(LearnedPositions, NoLayerTurnsAndNoTextIsLongerThanTheTable) {
  const auto config = config_of(ModelRecipe("gpt2"), "gpt2");
  ASSERT_TRUE(config.has_value()) << config.error().message;
  EXPECT_EQ(config->shape.site(3).rope, attention::AttentionShape::kNoRope);
  EXPECT_EQ(config->shape.max_positions, 16);
  EXPECT_TRUE(config->ropes.empty());
}

}  // namespace layers_test
}  // namespace fovea::models
