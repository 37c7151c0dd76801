#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fovea/models/testing/tiny_model.h"

namespace fovea::models {
namespace qwen3_test {

TEST(Qwen3, LogitsAreThoseOfTransformers) { TinyModel("qwen3").expect_golden_logits(); }

TEST(Qwen3, EveryHeadOfQueriesAndKeysHasTheSizeOfItsNorm) {
  TinyModel model("qwen3");
  tensor::Weight* norm = nullptr;
  for (const tensor::Parameter& p : model.family().weights()) {
    if (p.name == "blk.1.attn_q_norm.weight") norm = p.target;
  }
  ASSERT_NE(norm, nullptr);
  tensor::Tensor ones = tensor::weight_values(*norm);
  std::fill_n(ones.data(), ones.elements(), 1.0f);
  *norm = tensor::Weight::from("norm", ones);
  const std::vector<float> q = model.captured(3).at("blocks.1.attn.hook_q");
  const auto width = static_cast<size_t>(model.shape().head_dim);
  ASSERT_EQ(q.size() % width, 0u);
  for (size_t at = 0; at < q.size(); at += width) {
    double squares = 0;
    for (size_t i = 0; i < width; ++i) squares += double{q[at + i]} * q[at + i];
    EXPECT_NEAR(squares / static_cast<double>(width), 1, 1e-3);
  }
}

}  // namespace qwen3_test
}  // namespace fovea::models
