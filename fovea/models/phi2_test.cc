#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fovea/models/testing/tiny_model.h"

namespace fovea::models {
namespace phi2_test {

TEST(Phi2, LogitsAreThoseOfTransformers) { TinyModel("phi2").expect_golden_logits(); }

TEST(Phi2, OneNormServesAttentionAndMlp) {
  const TinyModel model("phi2");
  const auto seen = model.captured(5);
  EXPECT_EQ(seen.at("blocks.1.ln1.hook_normalized"), seen.at("blocks.1.ln2.hook_normalized"));
  EXPECT_EQ(seen.count("blocks.1.hook_resid_mid"), 0u);
}

// Half of each head is turned: the rest of hook_rot_q is hook_q.
TEST(Phi2, TheSecondHalfOfAHeadIsNotTurned) {
  const TinyModel model("phi2");
  const auto seen = model.captured(4);
  const std::vector<float>&q = seen.at("blocks.0.attn.hook_q"), &turned = seen.at("blocks.0.attn.hook_rot_q");
  const auto width = static_cast<size_t>(model.shape().head_dim);
  size_t changed = 0;
  for (size_t i = 0; i < q.size(); ++i) {
    ASSERT_TRUE(i % width < width / 2 || q[i] == turned[i]) << i;
    changed += q[i] != turned[i];
  }
  EXPECT_GT(changed, q.size() / 4);
}

}  // namespace phi2_test
}  // namespace fovea::models
