#include "fovea/attention/attend.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "fovea/attention/testing/methods.h"
#include "fovea/attention/testing/one_layer.h"
#include "fovea/base/check.h"
#include "fovea/base/threads.h"

namespace fovea::attention {
namespace attend_test {

using kernels::KvType;

bool everything(int32_t) { return true; }

// Looks at the weights of parts, and changes them all the same if told so.
class Looker final : public Method {
 public:
  static constexpr MethodInfo kInfo{
      .name = "test-looker", .title = "Looker", .paper = "none", .stages = kJoin, .summary = "for tests"};
  const MethodInfo& info() const override { return kInfo; }
  void visit_knobs(KnobVisitor& knobs) override { knobs.add("lies", lies_, {.help = "changes them"}); }
  bool joins(int) const override { return true; }
  bool weighs_parts(int) const override { return false; }
  void join(const Call&, const tensor::Tensor& lse, tensor::Tensor& weights) const override {
    for (int64_t i = 0; i < weights.elements(); i += 3) {
      const float* w = weights.data() + i;
      EXPECT_NEAR(w[0] + w[1] + w[2], 1, 1e-5);
      if (w[1] == 0) continue;
      EXPECT_NEAR(w[0] / w[1], std::exp(lse.data()[i] - lse.data()[i + 1]), 1e-3 * w[0] / w[1]);
    }
    if (lies_) weights.data()[0] *= 0.5f;
  }

 private:
  bool lies_ = false;
};
FOVEA_REGISTER_METHOD(Looker);

TEST(Attend, EqualsTheSlowTwinInPrefillAndDecode) {
  OneLayer layer;
  int32_t q_pos = -1;
  for (const int n : {1, 30, 1, 1, 65, 3}) {  // around pages of 32 keys and tiles of 64 rows
    const std::vector<float> z = layer.feed(n, /*decoding=*/n == 1);
    q_pos += n;
    for (int head = 0; head < 4; ++head)
      layer.expect_head(z, n - 1, head, layer.weighed(head, layer.pattern(head, q_pos, everything)));
    layer.expect_head(z, 0, 3, layer.weighed(3, layer.pattern(3, q_pos - n + 1, everything)));
  }
}

TEST(Attend, ManyKeysInSegmentsGiveTheSameBitsHoweverTheyAreFed) {
  OneLayer prefilled, decoded;
  prefilled.feed(2000), decoded.feed(2050);
  const std::vector<float> rows = prefilled.feed(60);
  std::vector<float> one_by_one;
  for (int i = 0; i < 10; ++i) {
    const std::vector<float> z = decoded.feed(1, /*decoding=*/true);
    one_by_one.insert(one_by_one.end(), z.begin(), z.end());
  }
  EXPECT_TRUE(std::equal(one_by_one.begin(), one_by_one.end(), rows.begin() + 50 * 64));
  prefilled.expect_head(rows, 59, 2, prefilled.weighed(2, prefilled.pattern(2, 2059, everything)));
}

TEST(Attend, LongAndShortSequencesOfABatchGiveTheBitsOfEachAlone) {
  for (const int threads : {1, 2, 8}) {
    set_threads(threads);
    OneLayer alone, together;
    Batch batch;
    std::vector<float> expected;
    const int lengths[] = {2100, 7, 1300, 40};  // more than one segment of keys, and one
    for (SequenceId s = 0; s < 4; ++s) {
      alone.feed(lengths[s], false, s), together.feed(lengths[s], false, s);
      const std::vector<float> z = alone.feed(1, /*decoding=*/true, s);
      expected.insert(expected.end(), z.begin(), z.end());
      batch.add(std::vector<int32_t>(1, 0), lengths[s], s, Phase::kDecode);
    }
    EXPECT_EQ(together.run(batch, 0), expected) << threads;
  }
  set_threads(0);
}

// On every path: fused, in parts that a method joins, and with rows that a method edits.
TEST(Attend, ASinkTakesItsShareOfEveryRow) {
  for (const std::string spec : {"dense", "test-pages:every=1", "test-classes:sinks=1", "test-rows:head=2:factor=1"}) {
    SCOPED_TRACE(spec);
    OneLayer layer(spec);
    layer.sinks = tensor::Tensor::from({4}, std::vector<float>{-3, 0.5f, 2, 30});
    layer.feed(1100);  // more than one segment of keys
    const std::vector<float> z = layer.feed(2), next = layer.feed(1, /*decoding=*/true);
    for (int head = 0; head < 4; ++head) {
      layer.expect_head(z, 1, head, layer.weighed(head, layer.pattern(head, 1101, everything)));
      layer.expect_head(next, 0, head, layer.weighed(head, layer.pattern(head, 1102, everything)));
    }
  }
}

TEST(Attend, RowsBesideASinkGiveTheSameBitsHoweverTheyAreFed) {
  OneLayer whole, parts;
  for (OneLayer* layer : {&whole, &parts}) layer->sinks = tensor::Tensor::from({4}, std::vector<float>{1, 2, 3, -1});
  const std::vector<float> z = whole.feed(1300);
  std::vector<float> fed = parts.feed(1290);
  for (int i = 0; i < 10; ++i) {
    const std::vector<float> one = parts.feed(1, /*decoding=*/i % 2 == 0);
    fed.insert(fed.end(), one.begin(), one.end());
  }
  EXPECT_EQ(fed, z);
}

// The rows that hooks see lack what the sink takes.
TEST(Attend, APatternBesideASinkSumsUpToLessThanOne) {
  OneLayer layer;
  layer.sinks = tensor::Tensor::from({4}, std::vector<float>(4, 0.0f));
  std::vector<float> sums;
  const auto scope = layer.hooks.scoped("blocks.0.attn.hook_pattern", [&](const std::string&, tensor::Tensor& x) {
    for (int64_t row = 0; row < x.dim(0) * x.dim(1); ++row)
      sums.push_back(std::accumulate(x.data() + row * x.dim(2), x.data() + (row + 1) * x.dim(2), 0.0f));
  });
  ASSERT_TRUE(scope.has_value());
  layer.feed(5);
  ASSERT_EQ(sums.size(), 20u);
  for (int head = 0; head < 4; ++head) {
    const std::vector<double> p = layer.pattern(head, 4, everything);
    const double want = std::accumulate(p.begin(), p.end(), 0.0);
    EXPECT_NEAR(sums[static_cast<size_t>(head * 5 + 4)], want, 1e-5);
    EXPECT_LT(want, 0.99);
  }
}

// [4, 2 far + 1], another number at each place.
tensor::Tensor some_bias(int64_t far) {
  tensor::Tensor bias = tensor::Tensor::empty({4, 2 * far + 1});
  for (int64_t i = 0; i < bias.elements(); ++i)
    bias.data()[i] = static_cast<float>(std::sin(0.7 * static_cast<double>(i)));
  return bias;
}

TEST(Attend, ABiasByDistanceIsAddedToEveryScoreOnEveryPath) {
  for (const std::string spec : {"dense", "test-pages:every=1", "test-classes:sinks=1", "test-rows:head=2:factor=1"}) {
    for (const bool causal : {true, false}) {
      SCOPED_TRACE(spec + (causal ? " causal" : " both ways"));
      OneLayer layer(spec);
      layer.use([&](AttentionShape& site) { site.causal = causal; });
      layer.sinks = tensor::Tensor::from({4}, std::vector<float>{-3, 0.5f, 2, 3});
      layer.by_distance = some_bias(5);
      const std::vector<float> z = layer.feed(50);
      for (const int row : {0, 3, 31, 32, 49}) {
        for (int head = 0; head < 4; ++head)
          layer.expect_head(z, row, head, layer.weighed(head, layer.pattern(head, row, everything)));
      }
    }
  }
}

TEST(Attend, HooksSeeScoresWithTheirBiasAndChangeNoBit) {
  OneLayer plain, watched;
  for (OneLayer* layer : {&plain, &watched}) layer->by_distance = some_bias(3);
  int fired = 0;
  const auto scope =
      watched.hooks.scoped("blocks.0.attn.hook_*", [&](const std::string&, tensor::Tensor&) { ++fired; });
  ASSERT_TRUE(scope.has_value());
  EXPECT_EQ(watched.feed(40), plain.feed(40));
  EXPECT_GT(fired, 4);
}

TEST(Attend, ABiasByDistanceOfOtherHeadsOrWithoutAMiddleIsRefused) {
  OneLayer layer;
  for (const auto& [heads, width] : {std::pair{3, 11}, {4, 10}}) {
    layer.by_distance = tensor::Tensor::zeros({heads, width});
    EXPECT_THROW(layer.feed(2), CheckFailed);
  }
}

constexpr int kHeadCounts[][3] = {{8, 2, 4}, {8, 4, 2}, {4, 1, 4}, {6, 3, 3}};  // heads, of keys, of values

TEST(Attend, KeysAndValuesMayHaveTheirOwnNumbersOfHeads) {
  for (const auto& [heads, n_k, n_v] : kHeadCounts) {
    OneLayer layer("dense", KvType::kF32, nullptr, OneLayer::shape_of(heads, n_k, n_v));
    layer.feed(40), layer.feed(30);
    const std::vector<float> z = layer.feed(1, /*decoding=*/true);
    for (int head = 0; head < heads; ++head)
      layer.expect_head(z, 0, head, layer.weighed(head, layer.pattern(head, 70, everything)));
    const CacheShape::Layer& at = layer.cache.shape().layer(0);
    EXPECT_EQ(layer.cache.bytes(), 3 * (static_cast<size_t>(n_k) * kernels::key_bytes(KvType::kF32, at.k_dim) +
                                        static_cast<size_t>(n_v) * kernels::value_bytes(KvType::kF32, at.v_dim)));
  }
}

TEST(Attend, HeadsThatShareKeysOrValuesGiveTheBitsOfRepeatedOnes) {
  for (const auto& [heads, n_k, n_v] : kHeadCounts) {
    for (const std::string spec : {"dense", "streaming-llm:n_sink=2:window=40:positions=text", "test-pages:every=3",
                                   "test-classes:sinks=0.5", "test-rows:head=2:factor=0.5"}) {
      SCOPED_TRACE(spec + " " + std::to_string(heads) + " " + std::to_string(n_k) + " " + std::to_string(n_v));
      const int most = std::max(n_k, n_v);
      OneLayer shared(spec, KvType::kF32, nullptr, OneLayer::shape_of(heads, n_k, n_v));
      OneLayer twin(spec, KvType::kF32, nullptr, OneLayer::shape_of(heads, most, most));
      twin.same_keys = most / n_k, twin.same_values = most / n_v;
      OneLayer* const both[] = {&shared, &twin};
      // z of the shared heads must be that of the twin; `rounding` where their pages are cut at other places.
      const auto feed = [&](int n, bool decoding, SequenceId sequence, float rounding) {
        const std::vector<float> z = shared.feed(n, decoding, sequence);
        EXPECT_THAT(z, testing::Pointwise(testing::FloatNear(rounding), twin.feed(n, decoding, sequence)));
      };
      feed(150, false, 0, 0);
      feed(7, false, 0, 0);
      for (int i = 0; i < 3; ++i) feed(1, true, 0, 0);
      for (OneLayer* layer : both) layer->fork(0, 1);
      feed(5, false, 1, 0);
      feed(1, true, 0, 0);
      for (OneLayer* layer : both) layer->truncate(1, 140), layer->truncate(0, 156);
      feed(30, false, 1, 0);
      feed(1, true, 0, 0);
      if (spec.starts_with("test-pages") || spec.starts_with("test-classes")) continue;  // they go by the pages' places
      for (OneLayer* layer : both) layer->cache.drop(1, 0, most - 1, 20, 120);           // of one head alone
      feed(5, false, 1, 1e-5f);
      for (OneLayer* layer : both) layer->cache.retain(1, 0, 0, [](int32_t position) { return position % 7 == 0; });
      feed(40, false, 1, 1e-5f);
      feed(1, true, 0, 0);
      for (int kv = 0; kv < most; ++kv) EXPECT_EQ(shared.cache.n_keys(1, 0, kv), twin.cache.n_keys(1, 0, kv)) << kv;
    }
  }
}

TEST(Attend, PagesOfCodesStayNearTheTwin) {
  OneLayer layer("dense", KvType::kI16);
  const std::vector<float> z = layer.feed(100);
  // Queries and keys are rounded to 1 / 4095 of their largest element: scores of about 10 are off by some 5e-3.
  for (int head = 0; head < 4; ++head)
    layer.expect_head(z, 99, head, layer.weighed(head, layer.pattern(head, 99, everything)), 2e-2);
}

TEST(Attend, HeadsOfOneGroupMayFollowDifferentRules) {
  OneLayer layer("streaming-llm:n_sink=2:window=10:heads=0.0:positions=text");
  const std::vector<float> z = layer.feed(80);
  layer.expect_head(z, 79, 0, layer.weighed(0, layer.pattern(0, 79, [](int32_t key) { return key < 2 || key > 69; })));
  layer.expect_head(z, 79, 1, layer.weighed(1, layer.pattern(1, 79, everything)));
  EXPECT_EQ(layer.cache.n_keys(0, 0, 0), 80);
}

TEST(Attend, TwoRulesOfWhichNeitherHoldsTheOtherMeet) {
  OneLayer layer("test-rule:n_sink=20:window=5,test-rule-too:n_sink=3:window=70");
  const std::vector<float> z = layer.feed(90);
  const auto both = [](int32_t key) { return (key < 20 || key > 84) && (key < 3 || key > 19); };
  for (int head = 0; head < 4; ++head)
    layer.expect_head(z, 89, head, layer.weighed(head, layer.pattern(head, 89, both)));
}

TEST(Attend, AMaskChoosesKeysPerRow) {
  OneLayer layer("test-strided:stride=3");
  const std::vector<float> z = layer.feed(140);
  for (const int row : {0, 1, 64, 139}) {
    const auto sees = [row](int32_t key) { return key % 3 == 0 || key == row; };
    for (int head = 0; head < 4; ++head)
      layer.expect_head(z, row, head, layer.weighed(head, layer.pattern(head, row, sees)));
  }
}

TEST(Attend, AMethodChoosesByWhatKeysHold) {
  constexpr double kLeast = 4.2;
  for (const KvType type : {KvType::kF32, KvType::kI16, KvType::kQ8_0}) {
    OneLayer layer(fmt::format("test-long-keys:least={}", kLeast), type);
    const std::vector<float> z = layer.feed(140);
    std::vector<double> lengths;  // of the KV heads, key by key
    for (int kv = 0; kv < 2; ++kv) {
      for (const KeyBlock& page : layer.cache.blocks(0, 0, kv)) {
        for (int slot = 0; slot < kernels::kPageKeys; ++slot) {
          float key[16];
          kernels::key_read(page.k, type, 16, slot, key);
          lengths.push_back(std::sqrt(std::inner_product(key, key + 16, key, 0.0)));
        }
      }
    }
    const size_t per_head = lengths.size() / 2;
    EXPECT_GT(std::count_if(lengths.begin(), lengths.begin() + 140, [](double l) { return l < kLeast; }), 20);
    for (const int row : {0, 64, 139}) {
      for (int head = 0; head < 4; ++head) {
        const auto sees = [&](int32_t key) {
          return key == row || lengths[static_cast<size_t>(head / 2) * per_head + static_cast<size_t>(key)] >= kLeast;
        };
        layer.expect_head(z, row, head, layer.weighed(head, layer.pattern(head, row, sees)),
                          type == KvType::kF32 ? 1e-5 : 5e-2);
      }
    }
  }
}

TEST(Attend, AListOfPagesReadsThoseAlone) {
  OneLayer listed("test-pages:every=3"), dense;
  const std::vector<float> z = listed.feed(300), all = dense.feed(300);
  for (const int row : {0, 31, 70, 299}) {
    const auto sees = [row](int32_t key) { return key / 32 % 3 == 0 || key / 32 >= row / 32 - 1; };
    for (int head = 0; head < 4; ++head)
      listed.expect_head(z, row, head, listed.weighed(head, listed.pattern(head, row, sees)));
  }
  EXPECT_LT(listed.keys.seen, listed.keys.dense * 3 / 4);
  // A row that sees every page has the bits of dense, and so does a mask that hides nothing.
  EXPECT_EQ(listed.of_head(z, 40, 1), dense.of_head(all, 40, 1));
  OneLayer whole("test-pages:every=1"), ones("test-strided:stride=1");
  EXPECT_EQ(whole.feed(300), all);
  EXPECT_EQ(ones.feed(300), all);
}

TEST(Attend, AListOfPagesOfOneHeadLeavesItsGroupAlone) {
  OneLayer listed("test-pages:every=3:head=1"), dense;
  const std::vector<float> z = listed.feed(300), all = dense.feed(300);
  const auto sees = [](int32_t key) { return key / 32 % 3 == 0 || key / 32 >= 8; };
  listed.expect_head(z, 299, 1, listed.weighed(1, listed.pattern(1, 299, sees)));
  for (const int head : {0, 2, 3}) {
    for (const int row : {0, 64, 299}) EXPECT_EQ(listed.of_head(z, row, head), dense.of_head(all, row, head));
  }
}

TEST(Attend, PartsJoinedByDefaultAreOneSoftmax) {
  OneLayer parts("test-classes"), dense;
  const std::vector<float> z = parts.feed(300), all = dense.feed(300);
  for (size_t i = 0; i < z.size(); ++i)
    ASSERT_NEAR(z[i], all[i], 2e-6) << i;  // powers of two are 3e-7 off in each part
}

TEST(Attend, ClassesOfKeysKeepTheMasksOfAMethodBefore) {
  OneLayer layer("test-strided:stride=2,test-classes:sinks=1");
  const std::vector<float> z = layer.feed(100);
  for (const int32_t row : {2, 5, 31, 40, 99}) {
    const auto sees = [row](int32_t key) { return key % 2 == 0 || key == row; };
    for (int head = 0; head < 4; ++head)
      layer.expect_head(z, row, head, layer.weighed(head, layer.pattern(head, row, sees)));
  }
}

TEST(Attend, JoinWeighsTheClassesOfKeys) {
  // Half of the sinks' weight goes to the others.
  OneLayer layer("test-classes:sinks=0.5");
  std::vector<float> z = layer.feed(300);
  const std::vector<float> next = layer.feed(1, /*decoding=*/true);
  for (const int row : {10, 299, 300}) {
    for (int head = 0; head < 4; ++head) {
      std::vector<double> pattern = layer.pattern(head, row, everything);
      double sinks = 0;
      for (size_t j = 0; j < 4; ++j) sinks += pattern[j];
      for (size_t j = 0; j < pattern.size(); ++j) pattern[j] *= j < 4 ? 0.5 : (1 - 0.5 * sinks) / (1 - sinks);
      layer.expect_head(row == 300 ? next : z, row == 300 ? 0 : row, head, layer.weighed(head, pattern));
    }
  }
}

TEST(Attend, WhatOnlyLooksAtTheClassesOfKeysChangesNoBit) {
  OneLayer layer("test-classes,test-looker"), parts("test-classes"), lies("test-classes,test-looker:lies=true");
  EXPECT_EQ(layer.feed(300), parts.feed(300));
  EXPECT_EQ(layer.feed(1, /*decoding=*/true), parts.feed(1, /*decoding=*/true));
  EXPECT_THROW(lies.feed(300), CheckFailed);
}

TEST(Attend, APartMayBeTurnedAsIfTheRowStoodElsewhereAndHaveABias) {
  OneLayer layer("test-nearer:limit=50:bias=1.5");
  const std::vector<float> z = layer.feed(300);
  for (const int row : {20, 60, 299}) {
    const auto far = [row](int32_t key) { return key / 32 < row / 32 - 1; };
    const auto stands = [&](int32_t key) { return far(key) ? std::min(row, 50) : row; };
    for (int head = 0; head < 4; ++head) {
      std::vector<double> pattern = layer.pattern_at(head, row, everything, stands);
      double sum = 0;
      for (size_t j = 0; j < pattern.size(); ++j) sum += pattern[j] *= far(static_cast<int32_t>(j)) ? std::exp(1.5) : 1;
      for (double& p : pattern) p /= sum;
      layer.expect_head(z, row, head, layer.weighed(head, pattern), 2e-5);
    }
  }
}

TEST(Attend, ALayersOwnWindowHoldsAndLetsOlderKeysGo) {
  OneLayer layer;
  layer.use([](AttentionShape& site) { site.window = 40; });
  for (int i = 0; i < 11; ++i) layer.feed(200);
  const std::vector<float> z = layer.feed(100);
  for (const int row : {2200, 2263, 2299}) {
    const auto sees = [row](int32_t key) { return key > row - 40; };
    for (int head = 0; head < 4; ++head)
      layer.expect_head(z, row - 2200, head, layer.weighed(head, layer.pattern(head, row, sees)));
  }
  EXPECT_GE(layer.cache.n_keys(0, 0, 0), 40 + 60);         // what a draft that is taken back needs
  EXPECT_LE(layer.cache.n_keys(0, 0, 0), 40 + 70 + 1024);  // they go by whole segments of the sums
}

TEST(Attend, ALayersOwnScaleAndSoftCapHold) {
  OneLayer layer;
  layer.use([](AttentionShape& site) { site.scale = 0.1f, site.softcap = 1.5f, site.rope = AttentionShape::kNoRope; });
  const std::vector<float> z = layer.feed(90);
  for (int head = 0; head < 4; ++head)
    layer.expect_head(z, 89, head, layer.weighed(head, layer.pattern(head, 89, everything)));
}

TEST(Attend, ALayerThatIsNotCausalSeesTheWholeSequence) {
  OneLayer layer;
  layer.use([](AttentionShape& site) { site.causal = false; });
  const std::vector<float> z = layer.feed(90);
  for (const int row : {0, 40, 89}) {
    for (int head = 0; head < 4; ++head)
      layer.expect_head(z, row, head, layer.weighed(head, layer.pattern(head, row, everything)));
  }
}

void expect_keys_from_elsewhere(int n_k, int n_v) {
  OneLayer layer("dense", KvType::kF32, nullptr, OneLayer::shape_of(4, n_k, n_v));
  layer.use([](AttentionShape& site) { site.causal = false, site.rope = AttentionShape::kNoRope; });
  Batch batch;
  batch.add(std::vector<int32_t>(3, 0), 0, 0);
  const auto waves = [](const tensor::Shape& shape, float phase) {
    tensor::Tensor t = tensor::Tensor::empty(shape);
    for (int64_t i = 0; i < t.elements(); ++i) t.data()[i] = std::sin(0.7f * static_cast<float>(i) + phase);
    return t;
  };
  const tensor::Tensor q = waves({3, 4, 16}, 0), k = waves({37, n_k, 16}, 1), v = waves({37, n_v, 16}, 2);
  std::vector<float> first;
  for (const bool again : {false, true}) {  // the second pass reads what the first left
    Attend attend({.model = layer.shape(), .ropes = {}, .batch = batch, .cache = &layer.cache});
    const tensor::Tensor z = attend.cross(0, q, again ? tensor::Tensor() : k, again ? tensor::Tensor() : v);
    const std::vector<float> found(z.values().begin(), z.values().end());
    if (again) {
      EXPECT_EQ(found, first);
      break;
    }
    first = found;
    for (int row = 0; row < 3; ++row) {
      for (int head = 0; head < 4; ++head) {
        std::vector<double> weights(37), expected(16, 0.0);
        double sum = 0;
        for (size_t j = 0; j < 37; ++j) {
          double dot = 0;
          for (int d = 0; d < 16; ++d)
            dot += double{q.data()[(row * 4 + head) * 16 + d]} *
                   k.data()[(static_cast<int>(j) * n_k + head * n_k / 4) * 16 + d];
          sum += weights[j] = std::exp(dot / 4);
        }
        for (size_t j = 0; j < 37; ++j) {
          for (size_t d = 0; d < 16; ++d)
            expected[d] +=
                weights[j] / sum * v.data()[(static_cast<int>(j) * n_v + head * n_v / 4) * 16 + static_cast<int>(d)];
        }
        layer.expect_head(found, row, head, expected);
      }
    }
  }
}

TEST(Attend, KeysFromElsewhereAreSeenByEveryRowAndStay) {
  for (const auto& [n_k, n_v] : {std::pair{2, 2}, {1, 2}, {4, 2}}) expect_keys_from_elsewhere(n_k, n_v);
}

TEST(Attend, RowsOfAHeadFollowItsPartsToo) {
  OneLayer fused("test-nearer:limit=50:bias=1.5"), rows("test-nearer:limit=50:bias=1.5,test-rows:head=2");
  const std::vector<float> a = fused.feed(300), b = rows.feed(300);
  for (const int row : {0, 20, 60, 64, 299}) {
    EXPECT_EQ(rows.of_head(b, row, 1), fused.of_head(a, row, 1));
    EXPECT_THAT(rows.of_head(b, row, 2), testing::Pointwise(testing::FloatNear(1e-5f), fused.of_head(a, row, 2)));
  }
}

// Every query head reads a part of its own, the last one of no page; or there is no part at all.
class NoKeys final : public Method {
 public:
  static constexpr MethodInfo kInfo{
      .name = "test-no-keys", .title = "None", .paper = "none", .stages = kChoose, .summary = "for tests"};
  const MethodInfo& info() const override { return kInfo; }
  void visit_knobs(KnobVisitor& knobs) override { knobs.add("parts", parts_, {.help = "whether there are some"}); }
  bool chooses(int) const override { return true; }
  void choose(const Call&, const Queries&, KeyPlan& plan) const override {
    const int kv = plan.n_kv_heads() - 1, last = plan.group() - 1;
    for (int t = 0; t < plan.n_tiles(); ++t) {
      std::vector<KeyPlan::Part>& parts = plan.tile(kv, t).parts;
      parts.resize(parts_ ? static_cast<size_t>(plan.group()) : 0, parts[0]);
      for (int g = 0; g <= last && parts_; ++g) parts[static_cast<size_t>(g)].head = g;
      if (parts_) parts.back().pages.clear();
    }
  }

 private:
  bool parts_ = true;
};
FOVEA_REGISTER_METHOD(NoKeys);

TEST(Attend, AHeadWithoutKeysGivesZerosAndLeavesTheOthers) {
  for (const std::string spec : {"test-no-keys", "test-no-keys,test-rows:head=2", "test-no-keys:parts=false"}) {
    OneLayer dense, some(spec);
    dense.feed(1100), some.feed(1100);  // segments of keys are tasks of their own
    const std::vector<float> a = dense.feed(1, true), b = some.feed(1, true);
    for (const int head : {0, 1}) EXPECT_EQ(some.of_head(b, 0, head), dense.of_head(a, 0, head)) << spec;
    const std::vector<float> third = spec.ends_with("parts=false") ? std::vector<float>(16) : dense.of_head(a, 0, 2);
    EXPECT_THAT(some.of_head(b, 0, 2), testing::Pointwise(testing::FloatNear(1e-5f), third)) << spec;
    EXPECT_THAT(some.of_head(b, 0, 3), testing::Each(0.0f)) << spec;
  }
}

TEST(Attend, CountsTheKeysItComputedOnAndThoseOfDense) {
  constexpr uint64_t kHeads = 4, kDense = kHeads * 90 * 91 / 2;
  OneLayer dense, window("test-rule:n_sink=2:window=8"), strided("test-strided:stride=2"),
      both("test-strided:stride=2,test-rule:n_sink=2:window=8");
  for (OneLayer* layer : {&dense, &window, &strided, &both}) layer->feed(90);
  uint64_t in_window = 0, in_stride = 0, in_both = 0;
  for (int row = 0; row < 90; ++row) {
    for (int key = 0; key <= row; ++key) {
      const bool near = key < 2 || key > row - 8, even = key % 2 == 0 || key == row;
      in_window += near, in_stride += even, in_both += near && even;
    }
  }
  EXPECT_EQ(dense.keys.seen, kDense);
  EXPECT_EQ(dense.keys.dense, kDense);
  EXPECT_EQ(window.keys.seen, kHeads * in_window);
  EXPECT_EQ(strided.keys.seen, kHeads * in_stride);
  EXPECT_EQ(both.keys.seen, kHeads * in_both);
  EXPECT_EQ(both.keys.dense, kDense);
}

TEST(Attend, TheShapeStageMovesRotationsAndValues) {
  OneLayer moved("test-positions:shift=7"), dense;
  const std::vector<float> z = moved.feed(50), plain = dense.feed(50);
  ASSERT_EQ(z.size(), plain.size());
  // Only distances matter to a rotation, so that a shift of all changes rounding; values were negated.
  for (size_t i = 0; i < z.size(); ++i) ASSERT_NEAR(z[i], -plain[i], 2e-5) << i;
}

TEST(Attend, ShapeStagesOfTwoMethodsAddUp) {
  OneLayer twice("test-positions:shift=7,test-positions-too:shift=5"), once("test-positions:shift=12"), dense;
  std::vector<float> rot_q[2];
  for (OneLayer* layer : {&twice, &once}) {
    ASSERT_TRUE(layer->hooks
                    .attach("blocks.0.attn.hook_rot_q",
                            [&, i = layer == &once](const std::string&, tensor::Tensor& q) {
                              rot_q[i].assign(q.values().begin(), q.values().end());
                            })
                    .has_value());
    layer->feed(20);
  }
  EXPECT_EQ(rot_q[0], rot_q[1]);
}

// Three sequences in one call against each alone, to the bit.
void expect_batch_equals_alone(const std::string& spec) {
  OneLayer together(spec);
  Batch batch;
  std::vector<float> expected;
  for (const int n : {5, 40, 1}) {
    const SequenceId sequence = n;
    batch.add(std::vector<int32_t>(static_cast<size_t>(n), 0), 0, sequence);
    OneLayer alone(spec);
    const std::vector<float> z = alone.feed(n, false, sequence);
    expected.insert(expected.end(), z.begin(), z.end());
  }
  EXPECT_EQ(together.run(batch, 0), expected) << spec;
}

TEST(Attend, SequencesOfABatchSeeOnlyThemselves) {
  for (const char* spec : {"dense", "streaming-llm:n_sink=1:window=4", "test-strided", "test-rows:odd=false",
                           "test-positions:shift=3", "scale:value=2"}) {
    expect_batch_equals_alone(spec);
  }
}

TEST(Attend, HooksReadAndReplaceOnTheWay) {
  OneLayer layer;
  std::vector<std::string> shapes;
  for (const char* hook : {"blocks.0.attn.hook_q", "blocks.0.attn.hook_k", "blocks.0.attn.hook_v",
                           "blocks.0.attn.hook_rot_q", "blocks.0.attn.hook_rot_k"}) {
    ASSERT_TRUE(layer.hooks
                    .attach(hook,
                            [&](const std::string& name, tensor::Tensor& t) {
                              shapes.push_back(name.substr(name.rfind('.') + 1) + " " + t.shape().to_string());
                            })
                    .has_value());
  }
  ASSERT_TRUE(layer.hooks
                  .attach("blocks.0.attn.hook_z",
                          [](const std::string&, tensor::Tensor& z) { z = tensor::Tensor::zeros(z.shape()); })
                  .has_value());
  EXPECT_EQ(layer.feed(3), std::vector<float>(3 * 64, 0.0f));
  EXPECT_THAT(shapes, testing::ElementsAre("hook_q [3, 4, 16]", "hook_k [3, 2, 16]", "hook_v [3, 2, 16]",
                                           "hook_rot_q [3, 4, 16]", "hook_rot_k [3, 2, 16]"));
}

TEST(Attend, WithoutACacheEveryKeyComesFromTheCall) {
  OneLayer cached;
  const std::vector<float> expected = cached.feed(20);
  const ModelShape& shape = cached.shape();
  // The same inputs, caught on their way in.
  OneLayer source;
  std::map<std::string, tensor::Tensor> inputs;
  ASSERT_TRUE(source.hooks
                  .attach("blocks.0.attn.hook_?",
                          [&](const std::string& name, tensor::Tensor& t) {
                            inputs.emplace(name.substr(name.size() - 1), tensor::Tensor::from(t.shape(), t.values()));
                          })
                  .has_value());
  source.feed(20);
  Batch batch;
  batch.add(std::vector<int32_t>(20, 0), 0, 0);
  tensor::RopeTable rope;
  for (int i = 0; i < 16; i += 2) rope.inv_freq.push_back(static_cast<float>(std::pow(1e4, -i / 16.0)));
  Attend attend({.model = shape, .ropes = {&rope, 1}, .batch = batch});
  const tensor::Tensor z = attend(0, {inputs.at("q"), inputs.at("k"), inputs.at("v")});
  ASSERT_EQ(static_cast<size_t>(z.elements()), expected.size());
  for (size_t i = 0; i < expected.size(); ++i)
    ASSERT_NEAR(z.data()[i], expected[i], 1e-5) << i;  // sums in another order
}

TEST(Attend, RowsMayBeCutAfterATileWasEdited) {
  OneLayer layer("test-strided:stride=3,test-nearer:limit=8");  // masks, then cuts
  const std::vector<float> z = layer.feed(100);
  for (const int32_t row : {5, 31, 32, 63, 64, 77, 99}) {
    const auto sees = [row](int32_t key) { return key % 3 == 0 || key == row; };
    const auto stands = [row](int32_t key) { return key / 32 < row / 32 - 1 ? std::min(row, 8) : row; };
    for (int head = 0; head < 4; ++head)
      layer.expect_head(z, row, head, layer.weighed(head, layer.pattern_at(head, row, sees, stands)));
  }
}

}  // namespace attend_test
}  // namespace fovea::attention
