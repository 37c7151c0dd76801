#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fovea/models/testing/tiny_model.h"

namespace fovea::models {
namespace qwen3moe_test {

TEST(Qwen3Moe, LogitsAreThoseOfTransformers) { TinyModel("qwen3moe").expect_golden_logits(); }

TEST(Qwen3Moe, SomeLayersHaveAPlainMlp) {
  const TinyModel model("qwen3moe");
  const ExpertSizes& experts = model.family().config().experts;
  EXPECT_TRUE(experts.in(0));
  EXPECT_FALSE(experts.in(1));
  EXPECT_TRUE(experts.normalized);
  const auto seen = model.captured(4);
  EXPECT_EQ(seen.count("blocks.0.mlp.hook_pre"), 0u);
  EXPECT_EQ(seen.count("blocks.1.mlp.hook_pre"), 1u);
  EXPECT_EQ(seen.count("blocks.1.mlp.hook_gate"), 0u);
}

}  // namespace qwen3moe_test
}  // namespace fovea::models
