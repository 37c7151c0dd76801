#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>

#include "fovea/attention/testing/one_layer.h"

namespace fovea::attention {
namespace retrieval_heads_test {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::HasSubstr;

std::vector<double> uniform(int n) { return std::vector<double>(static_cast<size_t>(n), 1.0 / n); }

TEST(RetrievalHeads, AMaskedHeadAttendsUniformlyWhileDecoding) {
  OneLayer layer("retrieval-heads:heads=0.1"), dense;
  layer.feed(40), dense.feed(40);
  const std::vector<float> z = layer.feed(1, /*decoding=*/true), plain = dense.feed(1, true);
  layer.expect_head(z, 0, 1, layer.weighed(1, uniform(41)));
  for (const int head : {0, 2, 3}) EXPECT_EQ(layer.of_head(z, 0, head), dense.of_head(plain, 0, head));
}

TEST(RetrievalHeads, ModeZeroSilencesTheHead) {
  OneLayer layer("retrieval-heads:heads=0.1:mask_mode=zero");
  layer.feed(40);
  EXPECT_THAT(layer.of_head(layer.feed(1, true), 0, 1), Each(0.0f));
}

// The mean of one head's rows in z, [n, 4 heads, 16].
std::vector<double> mean_of_rows(const OneLayer& layer, const std::vector<float>& z, int head) {
  const int n = static_cast<int>(z.size()) / (4 * 16);
  std::vector<double> mean(16, 0.0);
  for (int row = 0; row < n; ++row) {
    const std::vector<float> mine = layer.of_head(z, row, head);
    for (size_t d = 0; d < mean.size(); ++d) mean[d] += static_cast<double>(mine[d]) / n;
  }
  return mean;
}

TEST(RetrievalHeads, ModeMeanGivesTheMeanOfTheHeadOverThePrompt) {
  OneLayer layer("retrieval-heads:heads=0.1:mask_mode=mean"), dense;
  const std::vector<float> prompt = layer.feed(40);
  EXPECT_EQ(prompt, dense.feed(40));
  const std::vector<double> mean = mean_of_rows(layer, prompt, 1);
  for (int step = 0; step < 3; ++step) {  // what was decoded does not count
    const std::vector<float> z = layer.feed(1, true), plain = dense.feed(1, true);
    layer.expect_head(z, 0, 1, mean, 1e-6);  // one float rounding of values of at most 1.5
    for (const int head : {0, 2, 3}) EXPECT_EQ(layer.of_head(z, 0, head), dense.of_head(plain, 0, head));
  }
  // A second prompt does: the mean is over both.
  std::vector<float> both = prompt, more = layer.feed(25);
  EXPECT_EQ(more, dense.feed(25));
  both.insert(both.end(), more.begin(), more.end());
  layer.expect_head(layer.feed(1, true), 0, 1, mean_of_rows(layer, both, 1), 1e-6);
}

TEST(RetrievalHeads, ModeMeanIsTheSameHoweverThePromptWasCut) {
  OneLayer whole("retrieval-heads:heads=all:mask_mode=mean"), cut("retrieval-heads:heads=all:mask_mode=mean");
  whole.feed(73);
  for (const int n : {1, 7, 40, 25}) cut.feed(n);
  EXPECT_EQ(whole.feed(1, true), cut.feed(1, true));
}

TEST(RetrievalHeads, ModeMeanGivesZeroWhereNoPromptWasRead) {
  OneLayer layer("retrieval-heads:heads=0.1:mask_mode=mean");
  EXPECT_THAT(layer.of_head(layer.feed(1, true), 0, 1), Each(0.0f));
}

TEST(RetrievalHeads, ModeMeanKeepsSequencesAndLayersApartAndSurvivesAFork) {
  OneLayer layer("retrieval-heads:heads=all:mask_mode=mean"), alone("retrieval-heads:heads=all:mask_mode=mean");
  alone.feed(40);
  const std::vector<float> expected = alone.feed(1, true);
  layer.feed(40), layer.feed(30, false, 1), layer.feed(20, false, 0, 1);
  layer.cache.fork(0, 2), layer.pipeline.fork(0, 2);
  layer.feed(9);  // the original reads on, its fork does not
  Batch next;
  next.add(std::vector<int32_t>{0}, 40, 2, Phase::kDecode);
  EXPECT_EQ(layer.run(next, 0), expected);
}

TEST(RetrievalHeads, ThePromptIsReadWithEveryHead) {
  for (const char* mode : {"uniform", "zero", "mean"}) {
    OneLayer layer(std::string("retrieval-heads:heads=all:mask_mode=") + mode), dense;
    EXPECT_EQ(layer.feed(40), dense.feed(40)) << mode;
  }
}

TEST(RetrievalHeads, WithNoHeadToMaskDecodingIsDenseToTheBit) {
  OneLayer layer("retrieval-heads"), dense;
  layer.feed(40), dense.feed(40);
  EXPECT_EQ(layer.feed(1, true), dense.feed(1, true));
}

TEST(RetrievalHeads, MaskTopTakesTheHighestScores) {
  HeadProfile profile{.model_sha256 = "", .n_layers = 2, .n_heads = 4, .n_kv_heads = 2, .columns = {}};
  profile.columns["retrieval"].values = {0, 0.5, 0, 0.9, 0.7, 0, 0, 0};
  OneLayer layer("retrieval-heads:mask_top=2:mask_mode=zero", kernels::KvType::kF32, &profile);
  const std::vector<float> first = layer.feed(1, true, 0, 0), second = layer.feed(1, true, 0, 1);
  EXPECT_THAT(layer.of_head(first, 0, 3), Each(0.0f));
  EXPECT_THAT(layer.of_head(second, 0, 0), Each(0.0f));
  EXPECT_THAT(layer.of_head(first, 0, 1), testing::Not(Each(0.0f)));
}

// Which heads are silent while decoding, as layer * 4 + head.
std::vector<int> silenced(const std::string& knobs, const HeadProfile& profile) {
  OneLayer layer("retrieval-heads:mask_mode=zero:" + knobs, kernels::KvType::kF32, &profile);
  std::vector<int> heads;
  for (int l = 0; l < 2; ++l) {
    const std::vector<float> z = layer.feed(1, true, 0, l);
    for (int head = 0; head < 4; ++head) {
      const std::vector<float> mine = layer.of_head(z, 0, head);
      if (std::count(mine.begin(), mine.end(), 0.0f) == 16) heads.push_back(l * 4 + head);
    }
  }
  return heads;
}

TEST(RetrievalHeads, TheControlMasksAsManyOthersBySeed) {
  HeadProfile profile{.model_sha256 = "", .n_layers = 2, .n_heads = 4, .n_kv_heads = 2, .columns = {}};
  profile.columns["retrieval"].values = {0.9, 0, 0.8, 0, 0.7, 0, 0.6, 0};
  std::set<std::string> draws;
  for (int seed = 0; seed < 20; ++seed) {
    const std::string knobs = "mask_top=-2:seed=" + std::to_string(seed);
    const std::vector<int> heads = silenced(knobs, profile);
    EXPECT_EQ(heads, silenced(knobs, profile));
    ASSERT_EQ(heads.size(), 2u);
    for (const int head : heads) EXPECT_EQ(head % 2, 1) << "head " << head << " is one of the best half";
    draws.insert(::testing::PrintToString(heads));
  }
  EXPECT_EQ(draws.size(), 6u);  // every pair of the four others
  profile.columns["retrieval"].values.assign(8, 0.0);
  const auto none_left =
      Pipeline::parse("retrieval-heads:mask_top=-5", OneLayer("dense", kernels::KvType::kF32, &profile).shape());
  ASSERT_FALSE(none_left.has_value());
  EXPECT_THAT(none_left.error().message, AllOf(HasSubstr("mask_top is -5"), HasSubstr("of which 4 can be taken")));
}

TEST(RetrievalHeads, RefusesAnUnknownModeOrAMissingProfileAndNamesTheKnob) {
  const ModelShape shape = OneLayer::small_shape();
  const auto mode = Pipeline::parse("retrieval-heads:mask_mode=blur", shape);
  ASSERT_FALSE(mode.has_value());
  EXPECT_THAT(mode.error().message, AllOf(HasSubstr("mask_mode"), HasSubstr("uniform"), HasSubstr("blur")));
  const auto blind = Pipeline::parse("retrieval-heads:mask_top=3", shape);
  ASSERT_FALSE(blind.has_value());
  EXPECT_THAT(blind.error().message, AllOf(HasSubstr("retrieval-heads"), HasSubstr("fovea profile")));
}

}  // namespace retrieval_heads_test
}  // namespace fovea::attention
