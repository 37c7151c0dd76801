#include "fovea/models/support/gemma_rows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fovea/formats/gguf.h"
#include "fovea/models/testing/model_recipe.h"

namespace fovea::models {
namespace gemma_rows_test {

Result<Config> config_of(const ModelRecipe& recipe) {
  const std::string file = recipe.build([](formats::GgufWriter& w) {
    for (int i = 0; i < 60; ++i) w.tensor("pad." + std::to_string(i), {1});  // as many as there may be layers
  });
  const auto gguf = formats::Gguf::parse({reinterpret_cast<const std::byte*>(file.data()), file.size()}, "m.gguf");
  if (!gguf) return gguf.error();
  return read_config(*gguf);
}

TEST(GemmaRows, QueriesAreDividedByTheRootOfAHeadsWidthButInTheLargestModel) {
  ModelRecipe recipe("gemma3");
  recipe.set("gemma3.attention.key_length", uint32_t{16});
  const auto small = config_of(recipe);
  ASSERT_TRUE(small.has_value()) << small.error().message;
  EXPECT_EQ(small->shape.site(0).scale, 0.25f);
  const auto large = config_of(recipe.set("gemma3.block_count", uint32_t{62}));
  ASSERT_TRUE(large.has_value()) << large.error().message;
  EXPECT_EQ(large->shape.site(0).scale, 0.5f);  // 8 columns, 2 heads
  const auto said = config_of(recipe.set("gemma3.query_pre_attn_scalar", 100.0f));
  ASSERT_TRUE(said.has_value()) << said.error().message;
  EXPECT_EQ(said->shape.site(0).scale, 0.1f);
}

TEST(GemmaRows, SoftCapsAreThoseOfTheFileOrOfTheFamily) {
  const auto second = config_of(ModelRecipe("gemma2")), third = config_of(ModelRecipe("gemma3"));
  ASSERT_TRUE(second.has_value() && third.has_value());
  EXPECT_EQ(second->shape.site(0).softcap, 50);
  EXPECT_EQ(second->decoder.logit_softcap, 30);
  EXPECT_EQ(third->shape.site(0).softcap, 0);
  const auto none = config_of(ModelRecipe("gemma2").set("gemma2.attn_logit_softcapping", false));
  ASSERT_TRUE(none.has_value()) << none.error().message;
  EXPECT_EQ(none->shape.site(0).softcap, 0);
  EXPECT_EQ(none->decoder.logit_softcap, 30);
  EXPECT_FALSE(config_of(ModelRecipe("gemma2").set("gemma2.attn_logit_softcapping", 0.0f)).has_value());
  EXPECT_FALSE(config_of(ModelRecipe("gemma3").set("gemma3.attn_logit_softcapping", 50.0f)).has_value());
}

}  // namespace gemma_rows_test
}  // namespace fovea::models
