#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fovea/models/testing/tiny_model.h"

namespace fovea::models {
namespace gemma2_test {

TEST(Gemma2, LogitsAreThoseOfTransformers) { TinyModel("gemma2").expect_golden_logits(); }

TEST(Gemma2, LogitsAndScoresStayBelowTheirCaps) {
  const TinyModel model("gemma2");
  const auto seen = model.captured(40);
  EXPECT_EQ(model.family().config().decoder.logit_softcap, 4.0f);
  for (const float logit : seen.at("unembed.hook_out")) EXPECT_LE(std::abs(logit), 4.0f);
  for (const float score : seen.at("blocks.0.attn.hook_attn_scores")) EXPECT_LE(score, 5.0f);
  EXPECT_NEAR(model.shape().site(1).scale, 1 / std::sqrt(20.0), 1e-6);
  EXPECT_EQ(model.shape().site(0).window, 12);
  EXPECT_EQ(model.shape().site(1).window, INT_MAX);
}

}  // namespace gemma2_test
}  // namespace fovea::models
