#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <string>
#include <vector>

#include "fovea/attention/testing/one_layer.h"

namespace fovea::attention {
namespace razor_attention_test {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<float> read(OneLayer& layer, int begin, int end, Phase phase) {
  Batch batch;
  batch.add(std::vector<int32_t>(static_cast<size_t>(end - begin), 0), begin, 0, phase);
  return layer.run(batch, 0);
}

std::string refusal(const std::string& spec, const HeadProfile* profile = nullptr) {
  ModelShape shape = OneLayer::small_shape();
  shape.profile = profile;
  const auto parsed = Pipeline::parse(spec, shape);
  return parsed ? "accepted" : parsed.error().message;
}

const std::string kSpec = "razor-attention:ratio=5:buffer=8:sinks=2:protect=heads:heads=0.0";

TEST(RazorAttention, KeepsSinksAndBufferOfHeadsThatAreNotProtected) {
  OneLayer layer(kSpec);
  read(layer, 0, 60, Phase::kPromptEnd);
  EXPECT_EQ(layer.cache.n_keys(0, 0, 0), 60);
  std::vector<int32_t> kept = layer.cache.positions(0, 0, 1);
  EXPECT_EQ(kept.size(), 2u + 12u);  // 60 / 5 are more than 8
  EXPECT_EQ(kept[1], 1);
  EXPECT_EQ(kept[2], 48);
}

TEST(RazorAttention, WaitsForTheEndOfThePromptAndMovesOnWithEachToken) {
  OneLayer layer(kSpec);
  read(layer, 0, 30, Phase::kPrompt);
  EXPECT_EQ(layer.cache.n_keys(0, 0, 1), 30);
  read(layer, 30, 40, Phase::kPromptEnd);
  EXPECT_EQ(layer.cache.n_keys(0, 0, 1), 2 + 8);
  for (int n = 40; n < 45; ++n) read(layer, n, n + 1, Phase::kDecode);
  EXPECT_EQ(layer.cache.n_keys(0, 0, 1), 2 + 9);  // of 45 tokens
}

TEST(RazorAttention, PutsTheMeanOfWhatItDroppedInItsPlaceWithItsNumber) {
  for (const std::string compensation : {"on", "off", "unweighted"}) {
    OneLayer layer(kSpec + ":compensation=" + compensation);
    read(layer, 0, 58, Phase::kPromptEnd);
    for (int n = 58; n < 60; ++n) read(layer, n, n + 1, Phase::kDecode);
    const std::vector<float> z = read(layer, 60, 61, Phase::kDecode);
    const int n_dropped = 60 - 12 - 2;  // by the row before
    OneLayer dense;
    dense.feed(61);
    // The twin: softmax over the kept keys and the mean one, in plain loops.
    const auto dim = static_cast<size_t>(dense.shape().head_dim);
    const std::array<tensor::Tensor, 3> in = [&] {
      Batch batch;
      batch.add(std::vector<int32_t>(61, 0), 0, 0);
      auto all = dense.inputs(batch, 0);
      all[0] = tensor::rope(all[0], batch.positions, dense.rope());
      all[1] = tensor::rope(all[1], batch.positions, dense.rope());
      return all;
    }();
    const tensor::Tensor &q = in[0], &keys = in[1], &values = in[2];
    for (int head = 2; head < 4; ++head) {
      const auto key = [&](int i) { return keys.data() + (i * 2 + 1) * static_cast<int64_t>(dim); };
      const auto value = [&](int i) { return values.data() + (i * 2 + 1) * static_cast<int64_t>(dim); };
      const float* row = q.data() + (60 * 4 + head) * static_cast<int64_t>(dim);
      std::vector<double> mean_k(dim, 0), mean_v(dim, 0), expected(dim, 0);
      for (int i = 2; i < 2 + n_dropped; ++i) {
        for (size_t d = 0; d < dim; ++d) {
          mean_k[d] += static_cast<double>(key(i)[d]) / n_dropped;
          mean_v[d] += static_cast<double>(value(i)[d]) / n_dropped;
        }
      }
      double sum = 0;
      const auto add = [&](const auto* k, const auto* v, double times) {
        double dot = 0;
        for (size_t d = 0; d < dim; ++d) dot += static_cast<double>(row[d]) * static_cast<double>(k[d]);
        const double weight = times * std::exp(dot / std::sqrt(static_cast<double>(dim)));
        for (size_t d = 0; d < dim; ++d) expected[d] += weight * static_cast<double>(v[d]);
        sum += weight;
      };
      for (int i = 0; i < 61; ++i) {
        if (i < 2 || i >= 2 + n_dropped) add(key(i), value(i), 1);
      }
      if (compensation != "off") add(mean_k.data(), mean_v.data(), compensation == "on" ? n_dropped : 1);
      for (double& x : expected) x /= sum;
      layer.expect_head(z, 0, head, expected, 2e-5);
    }
    layer.expect_head(z, 0, 0, dense.weighed(0, dense.pattern(0, 60, [](int32_t) { return true; })));
  }
}

TEST(RazorAttention, IsExactWhereTheDroppedKeysAreEqual) {
  const auto equal_tokens = [](OneLayer& layer) {
    layer.use([](AttentionShape& site) { site.rope = AttentionShape::kNoRope; });
    layer.content = [](int32_t position) { return position >= 3 && position < 40 ? 3 : position; };
  };
  OneLayer dense, razor("razor-attention:ratio=5:buffer=8:sinks=3:protect=heads"),
      plain("razor-attention:ratio=5:buffer=8:sinks=3:protect=heads:compensation=off");
  for (OneLayer* layer : {&dense, &razor, &plain}) {
    equal_tokens(*layer);
    read(*layer, 0, 50, Phase::kPromptEnd);
  }
  const auto wanted = read(dense, 50, 51, Phase::kDecode), found = read(razor, 50, 51, Phase::kDecode),
             without = read(plain, 50, 51, Phase::kDecode);
  double most = 0;
  for (size_t i = 0; i < wanted.size(); ++i) {
    EXPECT_NEAR(found[i], wanted[i], 1e-5) << i;
    most = std::max(most, std::abs(static_cast<double>(without[i] - wanted[i])));
  }
  EXPECT_GT(most, 0.1);
  EXPECT_EQ(razor.cache.n_keys(0, 0, 0), 3 + 10);
}

TEST(RazorAttention, ProtectsTheBestHeadsOfTheProfileByTheirMaximumInTheGroup) {
  HeadProfile profile{.model_sha256 = "", .n_layers = 2, .n_heads = 4, .n_kv_heads = 2, .columns = {}};
  profile.columns["razor_induction"] = {Granularity::kHead, {0.1, 0.2, 0, 0.9, 0, 0, 0, 0}};
  profile.columns["razor_echo"] = {Granularity::kHead, {0, 0, 0, 0, 0, 0.7, 0.1, 0}};
  OneLayer layer("razor-attention:ratio=5:buffer=8:sinks=2:induction=0.25:echo=0.25", kernels::KvType::kF32, &profile);
  read(layer, 0, 60, Phase::kPromptEnd);
  EXPECT_EQ(layer.cache.n_keys(0, 0, 0), 14);
  EXPECT_EQ(layer.cache.n_keys(0, 0, 1), 60);
  Batch batch;
  batch.add(std::vector<int32_t>(60, 0), 0, 0, Phase::kPromptEnd);
  layer.run(batch, 1);
  EXPECT_EQ(layer.cache.n_keys(0, 1, 0), 60);
  EXPECT_EQ(layer.cache.n_keys(0, 1, 1), 14);
}

TEST(RazorAttention, RefusesAModelThatWasNotMeasuredAndNamesTheColumn) {
  EXPECT_THAT(refusal("razor-attention"), HasSubstr("razor_induction"));
  EXPECT_EQ(refusal("razor-attention:protect=heads"), "accepted");
  EXPECT_THAT(refusal("razor-attention:ratio=0"), HasSubstr("ratio"));
  EXPECT_THAT(refusal("razor-attention:protect=heads:heads=7.0"), HasSubstr("layer 7"));
  EXPECT_THAT(refusal("razor-attention:protect=heads,snapkv"), HasSubstr("cannot run together"));
}

}  // namespace razor_attention_test
}  // namespace fovea::attention
