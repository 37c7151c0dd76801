#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fovea/formats/testing/gguf_writer.h"
#include "fovea/models/testing/tiny_encoder.h"

namespace fovea::models {
namespace t5encoder_test {

using ::testing::HasSubstr;

// Where all tokens are the same, so are their queries and keys: scores of the first block differ by the bias alone.
TEST(T5Encoder, DistancesHaveTheBucketsOfThePaper) {
  const TinyEncoder model("t5encoder");  // 12 buckets, up to a distance of 40
  constexpr int kN = 60, kHeads = 3;
  const auto seen = model.captured(std::vector<int32_t>(kN, 7));
  const std::vector<float>& scores = seen.at("blocks.0.attn.hook_attn_scores");
  ASSERT_EQ(scores.size(), static_cast<size_t>(kHeads * kN * kN));
  // 0, 1 and 2 alone, 3 to 7, 8 to 16, 17 and more: 3 (40 / 3)^(i / 3).
  const auto bucket = [](int d) { return d < 3 ? d : d < 8 ? 3 : d < 17 ? 4 : 5; };
  std::map<int, float> biases;  // by bucket; keys behind the query have others
  for (int h = 0; h < kHeads; ++h) {
    biases.clear();
    for (int q = 0; q < kN; ++q) {
      for (int k = 0; k < kN; ++k) {
        const float score = scores[static_cast<size_t>((h * kN + q) * kN + k)];
        const int at = k > q ? 6 + bucket(k - q) : bucket(q - k);
        const auto [known, fresh] = biases.emplace(at, score);
        EXPECT_NEAR(known->second, score, 1e-4) << fresh << " " << q << " " << k;
      }
    }
    ASSERT_EQ(biases.size(), 11u);  // no key is behind by nothing
    for (auto a = biases.begin(); a != biases.end(); ++a) {
      for (auto b = std::next(a); b != biases.end(); ++b) EXPECT_GT(std::abs(a->second - b->second), 1e-3);
    }
  }
}

TEST(T5Encoder, ScoresAreNotScaledAndNothingTurns) {
  const TinyEncoder model("t5encoder");
  const attention::AttentionShape site = model.shape().site(1);
  EXPECT_EQ(site.scale, 1);
  EXPECT_EQ(site.rope, attention::AttentionShape::kNoRope);
  EXPECT_FALSE(site.causal);
  EXPECT_EQ(site.k_dim, 24);
  const auto seen = model.captured({5, 6, 7});
  EXPECT_EQ(seen.count("blocks.0.mlp.hook_pre_linear"), 1u);
  EXPECT_EQ(seen.count("blocks.0.attn.hook_rot_q"), 0u);
  EXPECT_EQ(TinyEncoder("t5encoder-relu").captured({5, 6, 7}).count("blocks.0.mlp.hook_pre_linear"), 0u);
}

TEST(T5Encoder, WithoutACacheItSaysThatItsBiasHasNoGradient) {
  try {
    TinyEncoder("t5encoder").hidden({5, 6, 7}, /*with_cache=*/false);
    FAIL() << "it ran";
  } catch (const CheckFailed& failure) {
    EXPECT_THAT(failure.what(), HasSubstr("bias by distance has no gradient"));
  }
}

}  // namespace t5encoder_test
}  // namespace fovea::models
