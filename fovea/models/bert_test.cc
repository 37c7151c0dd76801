#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "fovea/models/testing/tiny_encoder.h"

namespace fovea::models {
namespace bert_test {

const std::vector<int32_t> kIds = {5, 9, 40, 7, 7, 61, 30};

TEST(Bert, NormsStandBehindAttentionAndMlp) {
  const TinyEncoder model("bert");
  const auto seen = model.captured(kIds);
  const size_t d = static_cast<size_t>(model.shape().d_model);
  // Each row of what was normed has mean 0 and variance 1.
  for (const char* name : {"blocks.0.ln1.hook_normalized", "blocks.3.ln2.hook_normalized"}) {
    const std::vector<float>& x = seen.at(name);
    ASSERT_EQ(x.size(), kIds.size() * d);
    EXPECT_NEAR(std::accumulate(x.begin(), x.begin() + static_cast<std::ptrdiff_t>(d), 0.0), 0, 1e-4) << name;
    EXPECT_NEAR(std::inner_product(x.begin(), x.begin() + static_cast<std::ptrdiff_t>(d), x.begin(), 0.0),
                static_cast<double>(d), 1e-3)
        << name;
  }
  EXPECT_EQ(seen.at("blocks.0.hook_normalized_resid_post"), seen.at("blocks.1.hook_resid_pre"));
  EXPECT_EQ(seen.count("ln_final.hook_scale"), 0u);
  EXPECT_EQ(seen.count("blocks.0.attn.hook_rot_q"), 0u);
}

TEST(Bert, TheTapeSeesWhatTheCacheSees) {
  const TinyEncoder model("bert");
  const tensor::Tensor cached = model.hidden(kIds, true), alone = model.hidden(kIds, false);
  for (int64_t i = 0; i < cached.elements(); ++i) ASSERT_NEAR(alone.data()[i], cached.data()[i], 1e-5) << i;
}

TEST(Bert, NoTextIsLongerThanItsTableOfPositions) {
  const TinyEncoder model("bert");
  EXPECT_EQ(model.shape().max_positions, 128);
  EXPECT_FALSE(model.family().makes_text());
}

}  // namespace bert_test
}  // namespace fovea::models
