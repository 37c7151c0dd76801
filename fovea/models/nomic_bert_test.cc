#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fovea/models/testing/tiny_encoder.h"

namespace fovea::models {
namespace nomic_bert_test {

const std::vector<int32_t> kIds = {5, 9, 40, 7, 7, 61, 30};

TEST(NomicBert, TurnsQueriesAndKeysByItsOwnBase) {
  const TinyEncoder model("nomic-bert");
  ASSERT_EQ(model.family().config().ropes.size(), 1u);
  const auto& angles = model.family().config().ropes[0].inv_freq;  // 700^(-2 i / 16)
  ASSERT_EQ(angles.size(), 8u);
  EXPECT_NEAR(angles[4], 1 / std::sqrt(700.0), 1e-6);
  const auto seen = model.captured(kIds);
  EXPECT_EQ(seen.count("hook_pos_embed"), 0u);
  EXPECT_NE(seen.at("blocks.0.attn.hook_q"), seen.at("blocks.0.attn.hook_rot_q"));
}

TEST(NomicBert, TheTapeSeesWhatTheCacheSees) {
  const TinyEncoder model("nomic-bert");
  const tensor::Tensor cached = model.hidden(kIds, true), alone = model.hidden(kIds, false);
  for (int64_t i = 0; i < cached.elements(); ++i) ASSERT_NEAR(alone.data()[i], cached.data()[i], 1e-5) << i;
}

}  // namespace nomic_bert_test
}  // namespace fovea::models
