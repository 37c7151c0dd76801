#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fovea/models/testing/tiny_model.h"

namespace fovea::models {
namespace olmo2_test {

TEST(Olmo2, LogitsAreThoseOfTransformers) { TinyModel("olmo2").expect_golden_logits(); }

TEST(Olmo2, NothingIsNormalisedBeforeAttentionAndTheSumBehindIt) {
  const TinyModel model("olmo2");
  const auto seen = model.captured(3);
  EXPECT_EQ(seen.count("blocks.0.ln1.hook_scale"), 0u);
  EXPECT_EQ(seen.count("blocks.0.ln2.hook_scale"), 0u);
  for (const float x : seen.at("blocks.0.ln1_post.hook_normalized")) EXPECT_LT(std::abs(x), 8.0f);
  EXPECT_EQ(seen.at("blocks.0.ln1_post.hook_normalized").size(), seen.at("blocks.0.hook_attn_out").size());
}

}  // namespace olmo2_test
}  // namespace fovea::models
