#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fovea/models/testing/tiny_model.h"

namespace fovea::models {
namespace starcoder2_test {

TEST(StarCoder2, LogitsAreThoseOfTransformers) { TinyModel("starcoder2").expect_golden_logits(); }

TEST(StarCoder2, NormsAreCentredAndTheMlpHasNoGate) {
  const TinyModel model("starcoder2");
  const auto seen = model.captured(3);
  EXPECT_EQ(seen.count("blocks.0.mlp.hook_pre_linear"), 0u);
  const std::vector<float>& x = seen.at("blocks.2.ln1.hook_normalized");
  double sum = 0;
  for (int i = 0; i < 64; ++i) sum += x[static_cast<size_t>(i)];
  EXPECT_NEAR(sum, 0, 1e-4);
}

}  // namespace starcoder2_test
}  // namespace fovea::models
