#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fovea/models/testing/tiny_model.h"

namespace fovea::models {
namespace smollm3_test {

TEST(SmolLm3, LogitsAreThoseOfTransformers) { TinyModel("smollm3").expect_golden_logits(); }

TEST(SmolLm3, ALayerWithoutPositionsTurnsNothingAndHasTheWindow) {
  const TinyModel model("smollm3");
  const auto seen = model.captured(3);
  EXPECT_EQ(seen.count("blocks.0.attn.hook_rot_q"), 1u);
  EXPECT_EQ(seen.count("blocks.1.attn.hook_rot_q"), 0u);
  EXPECT_EQ(model.shape().site(0).window, INT_MAX);
  EXPECT_EQ(model.shape().site(1).window, 12);
}

}  // namespace smollm3_test
}  // namespace fovea::models
