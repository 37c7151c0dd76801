#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fovea/models/testing/tiny_model.h"

namespace fovea::models {
namespace granite_test {

TEST(Granite, LogitsAreThoseOfTransformers) { TinyModel("granite").expect_golden_logits(); }

TEST(Granite, MultipliersAreReadFromTheirKeys) {
  const TinyModel model("granite");
  const DecoderScalars& by = model.family().config().decoder;
  EXPECT_EQ(by.embed_scale, 3.0f);
  EXPECT_EQ(by.residual_scale, 0.4f);
  EXPECT_EQ(by.logit_scale, 0.4f);
  EXPECT_EQ(model.shape().site(2).scale, 0.2f);
  const auto seen = model.captured(4);
  const std::vector<float>&mid = seen.at("blocks.0.hook_resid_mid"), &mlp = seen.at("blocks.0.hook_mlp_out");
  for (size_t i = 0; i < mid.size(); ++i) ASSERT_NEAR(seen.at("blocks.0.hook_resid_post")[i], mid[i] + mlp[i], 1e-5);
}

}  // namespace granite_test
}  // namespace fovea::models
