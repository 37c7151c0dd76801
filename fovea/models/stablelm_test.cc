#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fovea/models/testing/tiny_model.h"

namespace fovea::models {
namespace stablelm_test {

TEST(StableLm, LogitsAreThoseOfTransformers) { TinyModel("stablelm").expect_golden_logits(); }

TEST(StableLm, SideBySideOneNormServesAttentionAndMlp) {
  const TinyModel model("stablelm-parallel");
  model.expect_golden_logits();
  const auto seen = model.captured(3);
  EXPECT_EQ(seen.at("blocks.0.ln1.hook_normalized"), seen.at("blocks.0.ln2.hook_normalized"));
  EXPECT_EQ(seen.count("blocks.0.hook_resid_mid"), 0u);
}

}  // namespace stablelm_test
}  // namespace fovea::models
