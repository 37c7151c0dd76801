#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fovea/models/testing/tiny_model.h"

namespace fovea::models {
namespace phi3_test {

TEST(Phi3, LogitsAreThoseOfTransformers) { TinyModel("phi3").expect_golden_logits(); }

TEST(Phi3, LongContextsHaveAnglesOfTheirOwn) {
  const TinyModel model("phi3");
  const Config& config = model.family().config();
  ASSERT_EQ(config.short_context, 200);
  const auto small = config.ropes_for(200)[0], large = config.ropes_for(201)[0];
  ASSERT_EQ(small.inv_freq.size(), 6u);  // three quarters of a head of 16
  EXPECT_EQ(small.inv_freq[0], large.inv_freq[0]);
  EXPECT_NEAR(small.inv_freq[5] / large.inv_freq[5], 9 / 1.5, 1e-4);
  EXPECT_NEAR(small.attn_factor, std::sqrt(1 + std::log(256.0 / 200) / std::log(200.0)), 1e-6);
}

}  // namespace phi3_test
}  // namespace fovea::models
