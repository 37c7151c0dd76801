#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "fovea/attention/testing/one_layer.h"

namespace fovea::attention {
namespace act_attention_calibration_test {

using ::testing::AllOf;
using ::testing::HasSubstr;

bool sees_all(int32_t) { return true; }

// One head of a layer in plain loops: the whole map, its column means, and the card's A'.
struct Twin {
  double beta = 0.4, threshold = 0.1;
  bool exclude_first = true, first_receives = true;
  int min_rows = 1;

  // Over the rows 0..last.
  static std::vector<double> means(const OneLayer& layer, int head, int last) {
    std::vector<double> out(static_cast<size_t>(last) + 1, 0.0);
    for (int i = 0; i <= last; ++i) {
      const std::vector<double> row = layer.pattern(head, i, sees_all);
      for (size_t t = 0; t < row.size(); ++t) out[t] += row[t];
    }
    for (size_t t = 0; t < out.size(); ++t) out[t] /= static_cast<double>(out.size() - t);
    return out;
  }
  std::vector<bool> sinks(const OneLayer& layer, int head, int last, bool by_length = false, double alpha = 0) const {
    const std::vector<double> mean = means(layer, head, last);
    std::vector<bool> out(mean.size(), false);
    for (size_t t = exclude_first ? 1 : 0; t < mean.size(); ++t)
      out[t] = last + 1 - static_cast<int>(t) >= min_rows && mean[t] > (by_length ? alpha / (last + 1) : threshold);
    return out;
  }
  std::vector<double> calibrated(std::vector<double> row, const std::vector<bool>& sink) const {
    const auto receives = [&](size_t u) { return !sink[u] && (u > 0 || first_receives); };
    double s = 0, others = 0;
    for (size_t u = 0; u < row.size(); ++u) (sink[u] ? s : others) += sink[u] || receives(u) ? row[u] : 0;
    if (others < 1e-6) return row;
    for (size_t u = 0; u < row.size(); ++u) {
      if (sink[u]) row[u] *= beta;
      if (receives(u)) row[u] += (1 - beta) * s * row[u] / others;
    }
    return row;
  }
};

std::string spec(const std::string& knobs) { return "act-attention-calibration:skip=0:" + knobs; }

TEST(AttentionCalibration, TheCardsRowByHand) {
  // [.5, .3, .2] with the second key a sink: .12, and .18 goes to the others as .5 to .2.
  const std::vector<double> row = Twin{}.calibrated({0.5, 0.3, 0.2}, {false, true, false});
  EXPECT_NEAR(row[0], 0.5 * (1 + 0.18 / 0.7), 1e-12);
  EXPECT_NEAR(row[1], 0.12, 1e-12);
  EXPECT_NEAR(row[2], 0.2 * (1 + 0.18 / 0.7), 1e-12);
  EXPECT_NEAR(row[0] + row[1] + row[2], 1, 1e-12);
}

TEST(AttentionCalibration, ThePartsGiveTheExplicitFormOverTheWholeMap) {
  struct Case {
    std::string knobs;
    Twin twin;
    bool by_length = false;
    double alpha = 0;
  };
  const std::vector<Case> cases = {
      {"heads=0.1:threshold=0.03", {.threshold = 0.03}},
      {"heads=0.1:beta=0:threshold=0.03", {.beta = 0, .threshold = 0.03}},
      {"heads=0.1:exclude_first=off:threshold=0.03", {.threshold = 0.03, .exclude_first = false}},
      {"heads=0.1:recipients=later:threshold=0.04", {.threshold = 0.04, .first_receives = false}},
      {"heads=0.1:min_rows=20:threshold=0.03", {.threshold = 0.03, .min_rows = 20}},
      {"heads=0.1:compare=length:alpha=3", {}, true, 3}};
  for (const Case& one : cases) {
    constexpr int n = 90;
    OneLayer layer(spec(one.knobs)), dense;
    const std::vector<float> z = layer.feed(n), plain = dense.feed(n);
    const std::vector<bool> sink = one.twin.sinks(dense, 1, n - 1, one.by_length, one.alpha);
    EXPECT_GT(std::count(sink.begin(), sink.end(), true), 0) << one.knobs;
    for (const int i : {0, 1, 40, 63, 64, n - 1}) {
      layer.expect_head(z, i, 1, dense.weighed(1, one.twin.calibrated(dense.pattern(1, i, sees_all), sink)));
      for (const int head : {0, 2, 3}) EXPECT_EQ(layer.of_head(z, i, head), dense.of_head(plain, i, head)) << i;
    }
  }
}

TEST(AttentionCalibration, AGeneratedTokenKnowsTheRowsUpToItsOwn) {
  OneLayer layer(spec("heads=0.1+0.2")), dense;
  layer.feed(40), dense.feed(40);
  for (int n = 41; n < 44; ++n) {
    const std::vector<float> z = layer.feed(1, /*decoding=*/true);
    dense.feed(1, true);
    for (const int head : {1, 2}) {
      const std::vector<bool> sink = Twin{}.sinks(dense, head, n - 1);
      layer.expect_head(z, 0, head, dense.weighed(head, Twin{}.calibrated(dense.pattern(head, n - 1, sees_all), sink)));
    }
  }
}

TEST(AttentionCalibration, RowsThatKnowOnlyThoseBeforeThemAreTheSameHoweverTheyAreFed) {
  OneLayer whole(spec("means=row:threshold=0.05")), cut(spec("means=row:threshold=0.05")), dense;
  const std::vector<float> z = whole.feed(90);
  EXPECT_NE(z, dense.feed(90));
  std::vector<float> parts;
  for (const int n : {1, 7, 40, 42}) {
    const std::vector<float> more = cut.feed(n);
    parts.insert(parts.end(), more.begin(), more.end());
  }
  EXPECT_EQ(parts, z);
  const std::vector<bool> sink = Twin{.threshold = 0.05}.sinks(dense, 3, 70);
  whole.expect_head(z, 70, 3,
                    dense.weighed(3, Twin{.threshold = 0.05}.calibrated(dense.pattern(3, 70, sees_all), sink)));
}

TEST(AttentionCalibration, AChunkKnowsTheRowsBeforeItAndItsOwn) {
  OneLayer layer(spec("heads=0.1")), dense;
  layer.feed(50), dense.feed(50);
  const std::vector<float> z = layer.feed(30);
  dense.feed(30);
  layer.expect_head(z, 10, 1,
                    dense.weighed(1, Twin{}.calibrated(dense.pattern(1, 60, sees_all), Twin{}.sinks(dense, 1, 79))));
}

TEST(AttentionCalibration, OverWhatASparseMethodLeavesMeansAreOfTheKeysThatAreRead) {
  OneLayer layer("streaming-llm:n_sink=1:window=20:positions=text," + spec("heads=0.1")), sparse;
  const std::vector<float> z = layer.feed(60);
  sparse.feed(60);
  const auto row = [&](int i) { return sparse.pattern(1, i, [i](int32_t key) { return key < 1 || key > i - 20; }); };
  std::vector<double> sums(60, 0.0);
  std::vector<int> rows(60, 0);
  for (int i = 0; i < 60; ++i) {
    for (int t = 0; t <= i; ++t) sums[static_cast<size_t>(t)] += row(i)[static_cast<size_t>(t)];
    for (int t = 0; t <= i; ++t) rows[static_cast<size_t>(t)] += t < 1 || t > i - 20;
  }
  std::vector<bool> sink(60, false);
  for (size_t t = 1; t < 60; ++t) sink[t] = sums[t] / rows[t] > 0.1;
  for (const int i : {5, 35, 59}) layer.expect_head(z, i, 1, sparse.weighed(1, Twin{}.calibrated(row(i), sink)));
}

TEST(AttentionCalibration, BetaOneOrNoHeadLeavesEveryBitAlone) {
  for (const char* knobs : {"beta=1", "heads=none", "threshold=1"}) {
    OneLayer dense, idle(spec(knobs));
    EXPECT_EQ(idle.feed(90), dense.feed(90)) << knobs;
    EXPECT_EQ(idle.feed(1, true), dense.feed(1, true)) << knobs;
  }
}

TEST(AttentionCalibration, GeneratedTokensCanBeTakenBackAndAForkIsItsOwn) {
  OneLayer layer(spec("threshold=0.05")), straight(spec("threshold=0.05"));
  layer.feed(40), straight.feed(40);
  layer.feed(3, true);
  EXPECT_TRUE(layer.pipeline.can_truncate(0, 41));
  EXPECT_FALSE(layer.pipeline.can_truncate(0, 30));
  layer.truncate(0, 41), layer.pipeline.truncate(0, 41);
  layer.fork(0, 1), layer.pipeline.fork(0, 1);
  straight.feed(1, true);
  layer.feed(5, true, 1);
  EXPECT_EQ(layer.feed(4, true), straight.feed(4, true));
}

// Heads of 2 layers of 4 whose z differs from that of dense attention, as layer * 4 + head.
std::set<int> calibrated(const std::string& knobs, const HeadProfile* profile = nullptr) {
  OneLayer layer(spec(knobs), kernels::KvType::kF32, profile), dense;
  std::set<int> out;
  for (int l = 0; l < 2; ++l) {
    const std::vector<float> z = layer.feed(40, false, 0, l), plain = dense.feed(40, false, 0, l);
    for (int head = 0; head < 4; ++head) {
      if (layer.of_head(z, 39, head) != dense.of_head(plain, 39, head)) out.insert(l * 4 + head);
    }
  }
  return out;
}

TEST(AttentionCalibration, HeadsAreThoseNamedOrTheBestOfTheProfile) {
  HeadProfile profile{.model_sha256 = "", .n_layers = 2, .n_heads = 4, .n_kv_heads = 2, .columns = {}};
  profile.columns["act_heads"].values = {0, 0.5, 0, 0.9, 0.7, 0, 0, 0};
  profile.columns["act_sinks"].values = {0, 0, 0.1, 0, 0, 0, 0, 0.1};
  EXPECT_EQ(calibrated("threshold=0.03:heads=0.1+1.2"), (std::set<int>{1, 6}));
  EXPECT_EQ(calibrated("threshold=0.03:top=2", &profile), (std::set<int>{3, 4}));
  EXPECT_EQ(calibrated("threshold=0.03:top=2:by=act_sinks", &profile), (std::set<int>{2, 7}));
}

TEST(AttentionCalibration, TheControlsTakeAsManyOtherHeadsOrKeysBySeed) {
  std::set<std::set<int>> draws;
  for (int seed = 0; seed < 8; ++seed) {
    const std::string knobs = "threshold=0.03:heads=0.1+1.2:control=heads:seed=" + std::to_string(seed);
    const std::set<int> heads = calibrated(knobs);
    EXPECT_EQ(heads, calibrated(knobs));
    EXPECT_EQ(heads.size(), 2u);
    EXPECT_EQ(heads.count(1) + heads.count(6), 0u);
    draws.insert(heads);
  }
  EXPECT_GT(draws.size(), 2u);

  // Between the two highest means, so that there is one sink; beta=0 hides the key drawn in its place, so that what is
  // read shows which it was.
  OneLayer dense;
  dense.feed(60);
  std::vector<double> means = Twin::means(dense, 1, 59);
  const auto at = std::max_element(means.begin() + 1, means.end()) - means.begin();
  const double highest = std::exchange(means[static_cast<size_t>(at)], 0.0);
  const double threshold = (highest + *std::max_element(means.begin() + 1, means.end())) / 2;
  OneLayer layer(spec("heads=0.1:beta=0:control=sinks:seed=3:threshold=" + std::to_string(threshold)));
  const std::vector<float> z = layer.feed(60);
  const std::vector<float> found = layer.of_head(z, 59, 1);
  int fits = 0;
  for (size_t t = 1; t < 60; ++t) {
    std::vector<bool> instead(60, false);
    instead[t] = true;
    const std::vector<double> expected =
        dense.weighed(1, Twin{.beta = 0}.calibrated(dense.pattern(1, 59, sees_all), instead));
    double off = 0;
    for (size_t d = 0; d < found.size(); ++d)
      off = std::max(off, std::abs(static_cast<double>(found[d]) - expected[d]));
    if (off > 1e-5) continue;
    ++fits;
    EXPECT_NE(t, static_cast<size_t>(at));
  }
  EXPECT_EQ(fits, 1);
}

TEST(AttentionCalibration, RefusesWhatIsOutOfRangeOrLeavesNoHeadAndNamesTheKnob) {
  const ModelShape shape = OneLayer::small_shape();
  const auto refused = [&](const std::string& knobs, const auto& matcher) {
    const auto made = Pipeline::parse("act-attention-calibration:" + knobs, shape);
    ASSERT_FALSE(made.has_value()) << knobs;
    EXPECT_THAT(made.error().message, matcher) << knobs;
  };
  refused("beta=2", AllOf(HasSubstr("beta"), HasSubstr("1")));
  refused("heads=all", AllOf(HasSubstr("skip is 2"), HasSubstr("2 layers")));
  refused("skip=0:heads=0.9", HasSubstr("head 9"));
  refused("skip=0:top=3", AllOf(HasSubstr("act-attention-calibration"), HasSubstr("head profile")));
  refused("skip=0:control=heads", AllOf(HasSubstr("control=heads"), HasSubstr("8 other heads")));
}

}  // namespace act_attention_calibration_test
}  // namespace fovea::attention
