#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fovea/models/testing/tiny_model.h"

namespace fovea::models {
namespace qwen2moe_test {

TEST(Qwen2Moe, LogitsAreThoseOfTransformers) { TinyModel("qwen2moe").expect_golden_logits(); }

TEST(Qwen2Moe, EveryTokenGoesToTheSharedExpert) {
  TinyModel model("qwen2moe");
  const auto with = model.captured(4).at("blocks.0.hook_mlp_out");
  for (const tensor::Parameter& p : model.family().weights()) {
    if (p.name == "blk.0.ffn_down_shexp.weight")
      *p.target = tensor::Weight::from(p.name, tensor::Tensor::zeros({p.shape[1], p.shape[0]}));
  }
  const auto without = model.captured(4).at("blocks.0.hook_mlp_out");
  for (size_t i = 0; i < with.size(); ++i) EXPECT_NE(with[i], without[i]) << i;
}

TEST(Qwen2Moe, WeightsOfExpertsAreTheirProbabilities) {
  EXPECT_FALSE(TinyModel("qwen2moe").family().config().experts.normalized);
}

}  // namespace qwen2moe_test
}  // namespace fovea::models
