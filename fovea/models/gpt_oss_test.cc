#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <climits>
#include <numeric>

#include "fovea/models/testing/tiny_model.h"

namespace fovea::models {
namespace gpt_oss_test {

TEST(GptOss, LogitsAreThoseOfTransformers) { TinyModel("gpt-oss").expect_golden_logits(); }

TEST(GptOss, EveryOtherLayerHasAWindowAndEveryHeadASink) {
  TinyModel model("gpt-oss");
  EXPECT_EQ(model.shape().site(0).window, 12);
  EXPECT_EQ(model.shape().site(1).window, INT_MAX);
  const int64_t n_keys = 6;
  const std::vector<float> pattern = model.captured(static_cast<size_t>(n_keys)).at("blocks.1.attn.hook_pattern");
  float least = 1;
  for (size_t at = 0; at < pattern.size(); at += static_cast<size_t>(n_keys))
    least = std::min(least, std::accumulate(pattern.begin() + static_cast<int64_t>(at),
                                            pattern.begin() + static_cast<int64_t>(at) + n_keys, 0.0f));
  EXPECT_LT(least, 0.9f);
}

// The file has gates beyond the clamp, so that it bites.
TEST(GptOss, TheClampOfItsActivationIsMet) {
  TinyModel model("gpt-oss");
  bool beyond = false;
  for (const tensor::Parameter& p : model.family().weights()) {
    if (!p.name.ends_with("ffn_gate_exps.bias")) continue;
    const tensor::Tensor bias = tensor::weight_values(*p.target);
    beyond = beyond || *std::max_element(bias.values().begin(), bias.values().end()) > 7;
  }
  EXPECT_TRUE(beyond);
}

}  // namespace gpt_oss_test
}  // namespace fovea::models
