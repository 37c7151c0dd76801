#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fovea/models/testing/tiny_model.h"

namespace fovea::models {
namespace gemma_test {

TEST(Gemma, LogitsAreThoseOfTransformers) { TinyModel("gemma").expect_golden_logits(); }

TEST(Gemma, EmbeddingsAreTheTableTimesTheRootOfTheWidth) {
  TinyModel model("gemma");
  tensor::Tensor table;
  for (const tensor::Parameter& p : model.family().weights()) {
    if (p.name == "token_embd.weight") table = tensor::weight_values(*p.target);
    EXPECT_EQ(p.hf.plus, p.name.ends_with("norm.weight") ? 1.0f : 0.0f) << p.name;
  }
  const std::vector<float> embed = model.captured(2).at("hook_embed");
  const int64_t width = table.dim(1);
  for (int64_t i = 0; i < width; ++i)
    EXPECT_NEAR(embed[static_cast<size_t>(i)], table.data()[model.ids()[0] * width + i] * std::sqrt(48.0), 1e-4);
}

}  // namespace gemma_test
}  // namespace fovea::models
