#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "fovea/models/testing/tiny_encoder.h"

namespace fovea::models {
namespace modern_bert_test {

std::vector<int32_t> some_ids(int n) {
  std::vector<int32_t> ids;
  for (int i = 0; i < n; ++i) ids.push_back(3 + (i * 37) % 90);
  return ids;
}

TEST(ModernBert, WindowsLookBothWaysInAllLayersButEveryThird) {
  const TinyEncoder model("modern-bert");  // local_attention 10: five keys on each side
  const auto seen = model.captured(some_ids(40));
  for (const int l : {0, 1, 2, 3}) {
    const std::vector<float>& pattern = seen.at("blocks." + std::to_string(l) + ".attn.hook_pattern");
    ASSERT_EQ(pattern.size(), 3u * 40 * 40);
    for (int q = 0; q < 40; ++q) {
      for (int k = 0; k < 40; ++k) {
        const bool visible = l % 3 == 0 || std::abs(q - k) <= 5;
        EXPECT_EQ(pattern[static_cast<size_t>(q * 40 + k)] > 0, visible) << l << " " << q << " " << k;
      }
    }
  }
}

TEST(ModernBert, LayersWithAWindowHaveAnglesOfTheirOwn) {
  const TinyEncoder model("modern-bert");
  EXPECT_EQ(model.shape().site(0).rope, 0);
  EXPECT_EQ(model.shape().site(1).rope, 1);
  EXPECT_EQ(model.shape().site(1).window, 6);
  EXPECT_EQ(model.shape().site(1).ahead(), 5);
}

TEST(ModernBert, TheFirstAttentionReadsTheEmbeddingsAsTheyAre) {
  const TinyEncoder model("modern-bert");
  const auto seen = model.captured(some_ids(7));
  EXPECT_EQ(seen.count("blocks.0.ln1.hook_scale"), 0u);
  EXPECT_EQ(seen.count("blocks.1.ln1.hook_scale"), 1u);
  EXPECT_EQ(seen.count("unembed.hook_out"), 0u);
}

TEST(ModernBert, TheTapeSeesWhatTheCacheSees) {
  const TinyEncoder model("modern-bert");
  const tensor::Tensor cached = model.hidden(some_ids(50), true), alone = model.hidden(some_ids(50), false);
  for (int64_t i = 0; i < cached.elements(); ++i) ASSERT_NEAR(alone.data()[i], cached.data()[i], 1e-4) << i;
}

}  // namespace modern_bert_test
}  // namespace fovea::models
