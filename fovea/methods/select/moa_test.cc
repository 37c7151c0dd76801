#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "fovea/attention/testing/one_layer.h"

namespace fovea::attention {
namespace moa_test {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Query heads 0 and 1 of a layer are of KV head 0, 2 and 3 of KV head 1.
HeadProfile plan(const std::vector<double>& alphas, const std::vector<double>& betas) {
  HeadProfile profile{.model_sha256 = "", .n_layers = 2, .n_heads = 4, .n_kv_heads = 2, .columns = {}};
  profile.columns["moa_alpha"] = {Granularity::kKvHead, alphas};
  profile.columns["moa_beta"] = {Granularity::kKvHead, betas};
  return profile;
}

TEST(Moa, EachKvHeadSeesTheFirstBlockAndTheWindowOfItsRule) {
  // At 24 tokens: 4 + 24/4 = 10, in whole blocks 8: two first keys and a window of 6; and 24/2 = 12.
  const HeadProfile profile = plan({4, 0, 0, 0}, {0.25, 0.5, 1, 1});
  OneLayer layer("moa:plan=profile:block=2", kernels::KvType::kF32, &profile);
  SeenKeys one(1), two(2);
  layer.observers = {&one, &two};
  layer.feed(24);
  EXPECT_THAT(one.of_row(20), ElementsAre(0, 1, 13, 14, 15, 16, 17, 18, 19, 20));
  EXPECT_THAT(two.of_row(12), ElementsAre(0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12));
  EXPECT_THAT(two.of_row(5), ElementsAre(0, 1, 2, 3, 4, 5));
}

TEST(Moa, OneRuleForAllIsTheMaskOfStreamingLlm) {
  OneLayer layer("moa:alpha=-8:beta=0.5:block=4"), twin("streaming-llm:n_sink=4:window=28:positions=text");
  layer.n_prompt = 80;  // 40 - 8 = 32 keys
  EXPECT_EQ(layer.feed(80), twin.feed(80));
  EXPECT_EQ(layer.feed(1, true), twin.feed(1, true));
  EXPECT_EQ(layer.cache.positions(0, 0, 1), twin.cache.positions(0, 0, 1));
}

TEST(Moa, SpansAreThoseOfTheWholePromptInEveryChunkAndForGeneratedTokens) {
  OneLayer layer("moa:beta=0.25:block=2");
  layer.n_prompt = 80;
  SeenKeys seen(0);
  layer.observers = {&seen};
  layer.feed(30), layer.feed(50), layer.feed(5, true);
  for (const int row : {29, 79, 84}) EXPECT_EQ(seen.of_row(row).size(), 20u) << row;
  EXPECT_EQ(layer.cache.n_keys(0, 0, 0), 19);  // the next row is the 20th
}

TEST(Moa, TheReserveCountsAsTextAndNoSpanIsLongerOrUnderTwoBlocks) {
  const auto n_seen = [](const std::string& knobs, int32_t n_prompt) {
    OneLayer layer("moa:" + knobs);
    layer.n_prompt = n_prompt;
    SeenKeys seen(0);
    layer.observers = {&seen};
    layer.feed(60);
    return seen.of_row(59).size();
  };
  EXPECT_EQ(n_seen("beta=0.25:block=4:reserve=40", 60), 24u);  // of 100: 25
  EXPECT_EQ(n_seen("alpha=900:beta=0:block=4", 60), 60u);
  EXPECT_EQ(n_seen("alpha=-900:beta=0.5:block=4", 60), 8u);
}

TEST(Moa, WhatNoHeadOfTheGroupSeesLeavesTheCacheHeadByHead) {
  const HeadProfile profile = plan({16, 0, 0, 40}, {0, 1, 0.5, 0});
  OneLayer layer("moa:plan=profile:block=4", kernels::KvType::kF32, &profile);
  layer.n_prompt = 64;
  for (const int l : {0, 1}) layer.feed(64, false, 0, l);
  EXPECT_EQ(layer.cache.n_keys(0, 0, 0), 15);
  EXPECT_EQ(layer.cache.n_keys(0, 0, 1), 64);
  EXPECT_EQ(layer.cache.n_keys(0, 1, 0), 31);
  EXPECT_EQ(layer.cache.n_keys(0, 1, 1), 39);
  const Method& method = *layer.pipeline.methods()[0];
  EXPECT_EQ(method.max_keys(0, 0), 15);
  EXPECT_EQ(method.max_keys(1, 1), 39);
  EXPECT_GT(method.max_keys(1, 0), 1 << 30);  // grows with the prompt
}

TEST(Moa, BytesInTheCacheAreThoseOfThePlansSpans) {
  const HeadProfile profile = plan({256, 0, 0, 512}, {0, 1, 0.5, 0});
  OneLayer layer("moa:plan=profile:block=32", kernels::KvType::kF32, &profile), dense;
  layer.n_prompt = 1024;
  uint64_t of_plan = 0;
  const int64_t spans[2][2] = {{256, 1024}, {512, 512}};
  for (const int l : {0, 1}) {
    layer.feed(1024, false, 0, l), dense.feed(1024, false, 0, l);
    for (const int64_t span : spans[l]) of_plan += layer.cache.ideal_bytes(l, span);
  }
  EXPECT_LE(layer.cache.bytes(0), of_plan + 3 * layer.cache.page_bytes(0, 1));  // a page cut at each window's begin
  EXPECT_GE(layer.cache.bytes(0) + 3 * layer.cache.page_bytes(0, 1), of_plan);
  EXPECT_LT(layer.cache.bytes(0), dense.cache.bytes(0) * 6 / 10);
}

TEST(Moa, AShareOfAllLeavesEveryBitAloneHoweverLongTheText) {
  OneLayer dense, idle("moa:beta=1:block=2");
  idle.n_prompt = 30;
  EXPECT_EQ(idle.feed(90), dense.feed(90));
  EXPECT_EQ(idle.feed(1, true), dense.feed(1, true));
}

// How many keys each KV head of two layers keeps of 64.
std::vector<int64_t> kept(const std::string& knobs, const HeadProfile& profile) {
  OneLayer layer("moa:plan=profile:block=1:" + knobs, kernels::KvType::kF32, &profile);
  layer.n_prompt = 64;
  std::vector<int64_t> out;
  for (const int l : {0, 1}) {
    layer.feed(64, false, 0, l);
    for (const int kv : {0, 1}) out.push_back(layer.cache.n_keys(0, l, kv) + 1);
  }
  return out;
}

TEST(Moa, ControlsShareTheSpansOutOtherwiseAndKeepTheirSum) {
  const HeadProfile profile = plan({8, 20, 0, 0}, {0, 0, 0.5, 0.75});
  EXPECT_THAT(kept("control=none", profile), ElementsAre(8, 20, 32, 48));
  EXPECT_THAT(kept("control=uniform", profile), ElementsAre(27, 27, 27, 27));
  std::set<std::vector<int64_t>> within, anywhere;
  for (int seed = 0; seed < 20; ++seed) {
    const std::string by_seed = ":seed=" + std::to_string(seed);
    within.insert(kept("control=shuffle" + by_seed, profile));
    std::vector<int64_t> drawn = kept("control=random" + by_seed, profile);
    EXPECT_EQ(drawn, kept("control=random" + by_seed, profile));
    anywhere.insert(drawn);
    std::sort(drawn.begin(), drawn.end());
    EXPECT_THAT(drawn, ElementsAre(8, 20, 32, 48));
  }
  EXPECT_EQ(within.size(), 4u);  // each layer in one of two orders
  EXPECT_GT(anywhere.size(), 8u);
}

TEST(Moa, RefusesWhatIsOutOfRangeAndAModelWithoutAPlan) {
  const ModelShape shape = OneLayer::small_shape();
  const auto wide = Pipeline::parse("moa:beta=1.5", shape);
  ASSERT_FALSE(wide.has_value());
  EXPECT_THAT(wide.error().message, AllOf(HasSubstr("moa"), HasSubstr("beta")));
  const auto planless = Pipeline::parse("moa:plan=profile", shape);
  ASSERT_FALSE(planless.has_value());
  EXPECT_THAT(planless.error().message, AllOf(HasSubstr("moa_alpha"), HasSubstr("fovea profile")));
}

}  // namespace moa_test
}  // namespace fovea::attention
