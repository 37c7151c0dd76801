#include "fovea/probe/capture/reducers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "fovea/kernels/attention.h"

namespace fovea::probe {
namespace reducers_test {

using attention::HeadSet;
using ::testing::ElementsAre;
using ::testing::FloatEq;
using ::testing::FloatNear;
using ::testing::HasSubstr;
using ::testing::Pointwise;

constexpr int32_t kDead = kernels::kNoPosition;

attention::ModelShape model() {
  attention::ModelShape shape;
  shape.n_layers = 2, shape.n_heads = 2, shape.n_kv_heads = 1, shape.head_dim = 8;
  return shape;
}

// Gives rows of layer 1, head 1 to a reducer of n tokens.
struct Rows {
  Rows(const char* spec, int64_t n)
      : reducer(Reduction::parse(spec).value(), model(), HeadSet::parse("1.1").value(), 0, n) {}
  void add(int32_t q_pos, const std::vector<int32_t>& positions, const std::vector<float>& pattern) {
    const attention::Call layer{shape, 1, 0, {}, attention::Phase::kPrompt, nullptr};
    reducer.see({layer, 1, q_pos, positions}, pattern);
  }
  std::span<const float> values() const { return reducer.values(1); }
  attention::ModelShape shape = model();
  RowReducer reducer;
};

TEST(Reducers, WantOnlyTheHeadsChosenAndOnlyThePrompt) {
  const Rows rows("max", 4);
  EXPECT_TRUE(rows.reducer.wants(1, 1, false));
  EXPECT_FALSE(rows.reducer.wants(1, 0, false));
  EXPECT_FALSE(rows.reducer.wants(0, 1, false));
  EXPECT_FALSE(rows.reducer.wants(1, 1, true));
  EXPECT_TRUE(rows.reducer.values(0).empty());
}

TEST(Reducers, TopkKeepsTheLargestAndTheEarlierOfEquals) {
  Rows rows("topk:3", 6);
  rows.add(5, {0, 1, 2, 3, 4, 5, kDead, kDead}, {0.1f, 0.3f, 0.1f, 0.3f, 0.1f, 0.1f, 0.0f, 0.0f});
  rows.add(0, {0, 1, 2, 3, 4, 5, kDead, kDead}, {1.0f, 0, 0, 0, 0, 0, 0, 0});
  EXPECT_THAT(rows.reducer.positions(1).last(3), ElementsAre(1, 3, 0));
  EXPECT_THAT(rows.values().last(3), ElementsAre(0.3f, 0.3f, 0.1f));
  EXPECT_THAT(rows.reducer.positions(1).first(3), ElementsAre(0, -1, -1));
  EXPECT_THAT(rows.values().first(3), ElementsAre(1.0f, 0.0f, 0.0f));
}

TEST(Reducers, BlocksSumRowsAndKeysByPosition) {
  Rows rows("block:2", 5);  // 3 x 3 blocks
  rows.add(0, {0}, {1.0f});
  rows.add(1, {0, 1}, {0.25f, 0.75f});
  rows.add(4, {0, 3, 4, kDead}, {0.5f, 0.125f, 0.375f, 0.0f});  // keys 1 and 2 were dropped
  EXPECT_THAT(rows.values(), ElementsAre(2.0f, 0, 0, 0, 0, 0, 0.5f, 0.125f, 0.375f));
}

TEST(Reducers, FullPutsWeightsAtTheirPositions) {
  Rows rows("full", 4);
  rows.add(3, {0, 2, 3, kDead}, {0.5f, 0.25f, 0.25f, 0.0f});
  EXPECT_THAT(rows.values().last(4), ElementsAre(0.5f, 0.0f, 0.25f, 0.25f));
}

TEST(Reducers, OneNumberPerRow) {
  const std::vector<int32_t> positions = {0, 1, 2, 3, kDead};
  const std::vector<float> p = {0.5f, 0.25f, 0.125f, 0.0625f, 0.0f};
  const auto value = [&](const char* spec) {
    Rows rows(spec, 4);
    rows.add(3, positions, p);
    return rows.values()[3];
  };
  EXPECT_FLOAT_EQ(value("sink:1"), 0.5f);
  EXPECT_FLOAT_EQ(value("sink:2"), 0.75f);
  EXPECT_FLOAT_EQ(value("local:1"), 0.0625f);
  EXPECT_FLOAT_EQ(value("local:100"), 0.9375f);
  EXPECT_FLOAT_EQ(value("rowsum"), 0.9375f);
  EXPECT_FLOAT_EQ(value("max"), 0.5f);
  EXPECT_NEAR(value("entropy"),
              -(0.5 * std::log(0.5) + 0.25 * std::log(0.25) + 0.125 * std::log(0.125) + 0.0625 * std::log(0.0625)),
              1e-6);
}

TEST(Reducers, EntropyEqualsDoublePrecisionOnAnyMagnitude) {
  std::mt19937 random(7);
  std::uniform_real_distribution<double> exponent(-90, 0);
  for (int n : {1, 15, 16, 17, 1000}) {
    std::vector<float> p(static_cast<size_t>(n));
    std::vector<int32_t> positions(p.size());
    double sum = 0, want = 0;
    for (float& x : p) sum += x = static_cast<float>(std::exp(exponent(random)));
    for (float& x : p) {
      x = static_cast<float>(x / sum);
      if (x > 0) want -= double{x} * std::log(double{x});
    }
    Rows rows("entropy", 1);
    rows.add(0, positions, p);
    EXPECT_NEAR(rows.values()[0], want, 2e-6 * (1 + want)) << n;  // float sums of up to a thousand terms
  }
}

TEST(Reducers, OtherSequencesAreNotMixedIn) {
  Rows rows("rowsum", 2);
  const attention::Call other{rows.shape, 1, 7, {}, attention::Phase::kPrompt, nullptr};
  const std::vector<int32_t> positions = {0};
  rows.reducer.see({other, 1, 0, positions}, std::vector<float>{1.0f});
  EXPECT_EQ(rows.values()[0], 0.0f);
  EXPECT_EQ(rows.reducer.rows_seen(1), 0);
}

TEST(Reducers, SpecsAreCheckedAndNamed) {
  EXPECT_EQ(Reduction::parse("topk")->to_string(), "topk:16");
  EXPECT_EQ(Reduction::parse("block:128")->to_string(), "block:128");
  EXPECT_EQ(Reduction::parse("entropy")->to_string(), "entropy");
  const auto message = [](const char* text) {
    const auto parsed = Reduction::parse(text);
    EXPECT_FALSE(parsed.has_value()) << text;
    return parsed.has_value() ? "" : parsed.error().message;
  };
  EXPECT_THAT(message("top_k:4"), HasSubstr("topk"));
  EXPECT_THAT(message("topk:0"), HasSubstr("K of topk"));
  EXPECT_THAT(message("topk:x"), HasSubstr("K of topk"));
  EXPECT_THAT(message("topk:99999999999999999999"), HasSubstr("K of topk"));
  EXPECT_THAT(message("entropy:3"), HasSubstr("takes no size"));
  EXPECT_THAT(message(""), HasSubstr("all: full, topk"));
  EXPECT_THAT(Reduction::parse("block:64")->shape(9, 130), ElementsAre(9, 3, 3));
  EXPECT_THAT(Reduction::parse("topk:4")->shape(9, 130), ElementsAre(9, 130, 4));
  EXPECT_THAT(Reduction::parse("topk:100000")->shape(9, 2), ElementsAre(9, 2, 2));  // no row has more
}

}  // namespace reducers_test
}  // namespace fovea::probe
