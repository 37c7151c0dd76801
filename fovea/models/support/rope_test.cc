// Each scaling against its formula, written out for single pairs.
#include "fovea/models/support/rope.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "fovea/formats/gguf.h"
#include "fovea/models/testing/model_recipe.h"

namespace fovea::models {
namespace rope_test {

using ::testing::HasSubstr;

constexpr int kTurned = 64, kContext = 4096;
constexpr double kBase = 10000;

Result<RopeTables> read(ModelRecipe& recipe) {
  const std::string file = recipe.build();
  const auto gguf = formats::Gguf::parse({reinterpret_cast<const std::byte*>(file.data()), file.size()}, "m.gguf");
  if (!gguf) return gguf.error();
  return read_rope(Keys(*gguf, "llama"), tensor::RopePairing::kHalves, kTurned, kContext);
}
ModelRecipe scaled(const std::string& type) {
  ModelRecipe recipe;
  recipe.set("llama.rope.scaling.type", type).set("llama.rope.scaling.factor", 8.0f);
  recipe.set("llama.rope.scaling.original_context_length", uint32_t{512});
  return recipe;
}
double theta(int i) { return std::pow(kBase, -2.0 * i / kTurned); }
void expect_angle(const RopeTables& rope, int i, double want) {
  EXPECT_NEAR(rope.table.inv_freq[static_cast<size_t>(i)], want, 1e-6 * want) << i;
}

TEST(Rope, DynamicIsPlainWithinTheContext) {
  ModelRecipe recipe = scaled("dynamic");
  const auto rope = read(recipe);
  ASSERT_TRUE(rope.has_value()) << rope.error().message;
  for (int i = 0; i < kTurned / 2; ++i) expect_angle(*rope, i, theta(i));
}

// 512 theta / 2 pi waves in the original context: those of fewer than 1 are divided, those of more than 4 are not.
TEST(Rope, Llama3DividesLongWaves) {
  ModelRecipe recipe = scaled("llama3");
  recipe.set("llama.rope.scaling.low_freq_factor", 1.0f).set("llama.rope.scaling.high_freq_factor", 4.0f);
  const auto rope = read(recipe);
  ASSERT_TRUE(rope.has_value()) << rope.error().message;
  for (int i = 0; i < kTurned / 2; ++i) {
    const double waves = 512 * theta(i) / (2 * M_PI), mix = (waves - 1) / 3;
    expect_angle(*rope, i, waves < 1 ? theta(i) / 8 : waves > 4 ? theta(i) : (1 - mix) * theta(i) / 8 + mix * theta(i));
  }
  recipe.set("llama.rope.scaling.low_freq_factor", 4.0f);
  EXPECT_THAT(read(recipe).error().message, HasSubstr("not below 4"));
  recipe.drop("llama.rope.scaling.low_freq_factor");
  EXPECT_THAT(read(recipe).error().where, HasSubstr("low_freq_factor"));
}

TEST(Rope, YarnDividesWhatTurnsLessThanOnceAndScalesAttention) {
  ModelRecipe recipe = scaled("yarn");
  const auto rope = read(recipe);
  ASSERT_TRUE(rope.has_value()) << rope.error().message;
  const auto dimension = [](double turns) {
    return kTurned * std::log(512 / (turns * 2 * M_PI)) / (2 * std::log(kBase));
  };
  const double low = std::floor(dimension(32)), high = std::ceil(dimension(1));
  for (int i = 0; i < kTurned / 2; ++i) {
    const double ramp = std::min(1.0, std::max(0.0, (i - low) / (high - low)));
    expect_angle(*rope, i, theta(i) * (1 - ramp) + theta(i) / 8 * ramp);
  }
  EXPECT_NEAR(rope->table.attn_factor, 0.1 * std::log(8.0) + 1, 1e-6);
  recipe.set("llama.rope.scaling.attn_factor", 0.5f);  // GGUF's multiplies
  EXPECT_NEAR(read(recipe)->table.attn_factor, 0.5 * (0.1 * std::log(8.0) + 1), 1e-6);
  recipe.set("llama.rope.scaling.attention_factor", 1.25f);  // config.json's is all of it
  EXPECT_EQ(read(recipe)->table.attn_factor, 1.25f);
}

TEST(Rope, LongropeHasTwoTables) {
  ModelRecipe recipe = scaled("longrope");
  EXPECT_THAT(read(recipe).error().message, HasSubstr("is missing, and so is tensor rope_factors_short.weight"));
  std::vector<float> small(kTurned / 2, 2.0f), large(kTurned / 2, 5.0f);
  recipe.set("llama.rope.scaling.short_factors", small).set("llama.rope.scaling.long_factors", large);
  const auto rope = read(recipe);
  ASSERT_TRUE(rope.has_value()) << rope.error().message;
  ASSERT_TRUE(rope->beyond.has_value());
  EXPECT_EQ(rope->short_context, 512);
  for (int i = 0; i < kTurned / 2; ++i) {
    expect_angle(*rope, i, theta(i) / 2);
    EXPECT_NEAR(rope->beyond->inv_freq[static_cast<size_t>(i)], theta(i) / 5, 1e-6 * theta(i));
  }
  EXPECT_NEAR(rope->table.attn_factor, std::sqrt(1 + std::log(8.0) / std::log(512.0)), 1e-6);
  small.pop_back();
  EXPECT_THAT(read(recipe.set("llama.rope.scaling.short_factors", small)).error().message,
              HasSubstr("has 31 values; 32 are needed"));
  small.push_back(0.0f);
  EXPECT_THAT(read(recipe.set("llama.rope.scaling.short_factors", small)).error().message, HasSubstr("holds 0"));
}

}  // namespace rope_test
}  // namespace fovea::models
