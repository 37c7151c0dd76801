#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fovea/attention/testing/one_layer.h"

namespace fovea::attention {
namespace streaming_llm_test {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<int32_t> visible_keys(const std::string& spec, int32_t q_pos) {
  OneLayer layer(spec);
  SeenKeys seen(1);
  layer.observers = {&seen};
  layer.feed(q_pos + 1);
  return seen.of_row(q_pos);
}

TEST(StreamingLlm, SeesSinksAndWindowOnly) {
  EXPECT_THAT(visible_keys("streaming-llm:n_sink=2:window=3", 9), ElementsAre(0, 1, 7, 8, 9));
  EXPECT_THAT(visible_keys("streaming-llm:n_sink=0:window=1", 9), ElementsAre(9));
}

TEST(StreamingLlm, SeesEverythingWhileItFits) {
  EXPECT_THAT(visible_keys("streaming-llm:n_sink=2:window=3", 4), ElementsAre(0, 1, 2, 3, 4));
}

TEST(StreamingLlm, GivesTheSoftmaxOverWhatItSees) {
  OneLayer layer("streaming-llm:n_sink=2:window=3:positions=text");
  const std::vector<float> z = layer.feed(60);
  for (const int row : {4, 9, 59}) {
    const auto sees = [row](int32_t key) { return key < 2 || key > row - 3; };
    for (int head = 0; head < 4; ++head)
      layer.expect_head(z, row, head, layer.weighed(head, layer.pattern(head, row, sees)));
  }
}

TEST(StreamingLlm, PositionsAreThoseInsideTheCache) {
  OneLayer layer("streaming-llm:n_sink=2:window=3");
  const std::vector<float> z = layer.feed(90);
  for (const int row : {2, 4, 5, 9, 89}) {
    const auto sees = [row](int32_t key) { return key < 2 || key > row - 3; };
    const auto stands = [row](int32_t key) { return key < 2 ? std::min(row, 2 + 3 - 1) : row; };
    for (int head = 0; head < 4; ++head)
      layer.expect_head(z, row, head, layer.weighed(head, layer.pattern_at(head, row, sees, stands)));
  }
}

TEST(StreamingLlm, ALayersOwnWindowHidesSinksOnlyBehindIt) {
  for (const char* positions : {"cache", "text"}) {
    OneLayer layer(std::string("streaming-llm:n_sink=2:window=3:positions=") + positions);
    layer.use([](AttentionShape& site) { site.window = 12; });
    const std::vector<float> z = layer.feed(40);
    const bool cached = std::string(positions) == "cache";
    for (const int row : {2, 4, 5, 9, 11, 12, 13, 39}) {
      const auto sees = [row](int32_t key) { return key > row - 12 && (key < 2 || key > row - 3); };
      const auto stands = [&](int32_t key) { return cached && key < 2 ? std::min(row, 2 + 3 - 1) : row; };
      for (int head = 0; head < 4; ++head)
        layer.expect_head(z, row, head, layer.weighed(head, layer.pattern_at(head, row, sees, stands)));
    }
  }
}

TEST(StreamingLlm, WhatWasEvictedDoesNotShowHoweverMuchItWas) {
  for (const int evicted : {100, 5000, 60000}) {
    OneLayer little("streaming-llm:n_sink=4:window=40"), much("streaming-llm:n_sink=4:window=40");
    much.content = [evicted](int32_t position) { return position < 4 + evicted ? position % 4 : position - evicted; };
    little.feed(100);
    for (int left = 100 + evicted; left > 0; left -= 1000) much.feed(std::min(left, 1000));
    const std::vector<float> a = little.feed(20), b = much.feed(20);
    // Angles are floats of their positions' cosines: distances of 40 are right to some 1e-6.
    EXPECT_THAT(b, testing::Pointwise(testing::FloatNear(5e-5f), a)) << evicted;
    EXPECT_EQ(much.cache.bytes(), little.cache.bytes());
  }
}

TEST(StreamingLlm, LooksBackNoFurtherThanItsCacheUnlessPositionsAreOfTheText) {
  EXPECT_EQ(OneLayer("streaming-llm:n_sink=4:window=40").pipeline.reach(), 44);
  for (const char* knobs : {"positions=text", "heads=0", "n_sink=4:window=40:positions=text"})
    EXPECT_GT(OneLayer(std::string("streaming-llm:") + knobs).pipeline.reach(), int64_t{1} << 40) << knobs;
}

TEST(StreamingLlm, HoldsTheSinksAndWhatTheNextRowSees) {
  OneLayer layer("streaming-llm:n_sink=4:window=40");
  for (int i = 0; i < 10; ++i) layer.feed(37);
  for (int i = 0; i < 50; ++i) {
    layer.feed(1, /*decoding=*/true);
    EXPECT_EQ(layer.cache.n_keys(0, 0, 0), 4 + 40 - 1);
    // The window may begin and end inside a page.
    EXPECT_LE(layer.cache.bytes(), 2 * layer.cache.ideal_bytes(0, 4 + 40 + kernels::kPageKeys));
  }
  const std::vector<int32_t> kept = layer.cache.positions(0, 0, 1);
  EXPECT_THAT(std::vector<int32_t>(kept.begin(), kept.begin() + 4), ElementsAre(0, 1, 2, 3));
  EXPECT_EQ(kept.back(), 10 * 37 + 50 - 1);
}

TEST(StreamingLlm, AnotherWayToCutThePromptMovesOnlyTheRounding) {
  OneLayer whole("streaming-llm:n_sink=4:window=40"), parts("streaming-llm:n_sink=4:window=40");
  const std::vector<float> expected = whole.feed(300);
  std::vector<float> found;
  for (int i = 0; i < 30; ++i) {
    const std::vector<float> z = parts.feed(10);
    found.insert(found.end(), z.begin(), z.end());
  }
  EXPECT_LT(parts.cache.n_keys(0, 0, 0), 100);
  // Dropped keys move page borders, so float32 sums are cut elsewhere.
  EXPECT_THAT(found, testing::Pointwise(testing::FloatNear(1e-5f), expected));
}

TEST(StreamingLlm, HeadsLeftOutSeeAndKeepEverything) {
  OneLayer layer("streaming-llm:n_sink=1:window=8:heads=0.0+0.1+0.2"), dense;
  const std::vector<float> z = layer.feed(100), full = dense.feed(100);
  EXPECT_EQ(layer.of_head(z, 99, 3), dense.of_head(full, 99, 3));
  EXPECT_NE(layer.of_head(z, 99, 2), dense.of_head(full, 99, 2));
  EXPECT_LT(layer.cache.n_keys(0, 0, 0), 100);
  EXPECT_EQ(layer.cache.n_keys(0, 0, 1), 100);  // head 3 still reads it
}

TEST(StreamingLlm, TheBestRetrievalHeadsKeepEverything) {
  HeadProfile profile{.model_sha256 = "", .n_layers = 2, .n_heads = 4, .n_kv_heads = 2, .columns = {}};
  profile.columns["retrieval"].values = {0, 0, 0.2, 0.9, 0.1, 0, 0, 0};  // head 3 of layer 0 is of KV head 1
  OneLayer layer("streaming-llm:n_sink=1:window=8:full=0.25", kernels::KvType::kF32, &profile);
  layer.feed(100);
  EXPECT_LT(layer.cache.n_keys(0, 0, 0), 100);
  EXPECT_EQ(layer.cache.n_keys(0, 0, 1), 100);
}

TEST(StreamingLlm, RefusesAnEmptyWindowAndNamesTheKnob) {
  const ModelShape shape = OneLayer::small_shape();
  const auto empty = Pipeline::parse("streaming-llm:window=0", shape);
  ASSERT_FALSE(empty.has_value());
  EXPECT_THAT(empty.error().message, AllOf(HasSubstr("streaming-llm"), HasSubstr("window")));
  const auto blind = Pipeline::parse("streaming-llm:full=0.25", shape);
  ASSERT_FALSE(blind.has_value());
  EXPECT_THAT(blind.error().message, AllOf(HasSubstr("streaming-llm"), HasSubstr("fovea profile")));
}

// Both cut the rows of a pass where theirs begin to lose keys, the second when the first has edited its tiles.
TEST(StreamingLlm, TwoOfItEachHaveTheirHeads) {
  const std::string first = "streaming-llm:heads=0.0:window=2:n_sink=1",
                    second = "streaming-llm:heads=0.3:window=5:n_sink=2";
  OneLayer both(first + "," + second), one(first), two(second), dense;
  const std::vector<float> z = both.feed(20), a = one.feed(20), b = two.feed(20), c = dense.feed(20);
  for (int row = 0; row < 20; ++row) {
    EXPECT_EQ(both.of_head(z, row, 0), one.of_head(a, row, 0)) << row;
    EXPECT_EQ(both.of_head(z, row, 3), two.of_head(b, row, 3)) << row;
    EXPECT_EQ(both.of_head(z, row, 1), dense.of_head(c, row, 1)) << row;
  }
}

}  // namespace streaming_llm_test
}  // namespace fovea::attention
