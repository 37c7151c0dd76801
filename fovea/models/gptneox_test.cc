#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fovea/models/testing/tiny_model.h"

namespace fovea::models {
namespace gptneox_test {

TEST(GptNeoX, LogitsAreThoseOfTransformers) { TinyModel("gptneox").expect_golden_logits(); }

TEST(GptNeoX, AttentionAndMlpReadTheSameAndAreAddedTogether) {
  const TinyModel model("gptneox");
  const auto seen = model.captured(5);
  EXPECT_EQ(seen.at("blocks.1.hook_mlp_in"), seen.at("blocks.1.hook_resid_pre"));
  const std::vector<float>&pre = seen.at("blocks.1.hook_resid_pre"), &post = seen.at("blocks.1.hook_resid_post");
  const std::vector<float>&attn = seen.at("blocks.1.hook_attn_out"), &mlp = seen.at("blocks.1.hook_mlp_out");
  for (size_t i = 0; i < pre.size(); ++i) ASSERT_NEAR(post[i], pre[i] + attn[i] + mlp[i], 1e-5);
}

}  // namespace gptneox_test
}  // namespace fovea::models
