#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fovea/models/testing/tiny_model.h"

namespace fovea::models {
namespace gpt2_test {

TEST(Gpt2, LogitsAreThoseOfTransformers) { TinyModel("gpt2").expect_golden_logits(); }

TEST(Gpt2, PositionsAreRowsOfATableAndNoLayerTurns) {
  TinyModel model("gpt2");
  tensor::Tensor table;
  for (const tensor::Parameter& p : model.family().weights()) {
    if (p.name == "position_embd.weight") table = tensor::weight_values(*p.target);
  }
  const auto seen = model.captured(3);
  const std::vector<float>& positions = seen.at("hook_pos_embed");
  EXPECT_TRUE(std::equal(positions.begin(), positions.end(), table.data()));
  EXPECT_EQ(seen.count("blocks.0.attn.hook_rot_q"), 0u);
  EXPECT_EQ(seen.count("blocks.0.mlp.hook_pre_linear"), 0u);
  EXPECT_EQ(model.shape().max_positions, 192);
}

}  // namespace gpt2_test
}  // namespace fovea::models
