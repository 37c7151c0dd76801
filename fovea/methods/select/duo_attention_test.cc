#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <string>
#include <vector>

#include "fovea/attention/testing/one_layer.h"
#include "fovea/tensor/exec.h"
#include "fovea/tensor/ops/reduce/reduce.h"
#include "fovea/tensor/tape.h"

namespace fovea::attention {
namespace duo_attention_test {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pointwise;

// Two layers of two KV heads with two query heads each.
HeadProfile gates_of(std::vector<double> gates) {
  HeadProfile profile{.model_sha256 = "", .n_layers = 2, .n_heads = 4, .n_kv_heads = 2, .columns = {}};
  profile.columns["duo_gate"] = {Granularity::kKvHead, std::move(gates)};
  return profile;
}

// Which of the four KV heads stream: "0110".
std::string streaming(const std::string& knobs, const std::vector<double>& gates,
                      ModelShape shape = OneLayer::small_shape()) {
  const HeadProfile profile = gates_of(gates);
  shape.profile = &profile;
  const auto pipeline = Pipeline::parse("duo-attention" + knobs, shape);
  if (!pipeline) return pipeline.error().message;
  std::string out;
  for (int layer = 0; layer < 2; ++layer) {
    for (int kv = 0; kv < 2; ++kv) {
      const Method& method = *pipeline->methods()[0];
      const bool streams = method.max_keys(layer, kv) < 1 << 30;
      for (int g = 0; g < 2; ++g) EXPECT_EQ(method.rule(layer, kv * 2 + g) == KeyRule{}, !streams);
      out += streams ? '1' : '0';
    }
  }
  return out;
}

TEST(DuoAttention, TheLowestGatesStream) {
  const std::vector<double> gates = {0.9, 0.2, 0.4, 0.6};
  EXPECT_EQ(streaming("", gates), "0110");
  EXPECT_EQ(streaming(":sparsity=0.25", gates), "0100");
  EXPECT_EQ(streaming(":sparsity=0.75", gates), "0111");
  EXPECT_EQ(streaming(":sparsity=0", gates), "0000");
  EXPECT_EQ(streaming(":sparsity=1", gates), "1111");
  EXPECT_EQ(streaming(":threshold=0.4", gates), "0100");
  EXPECT_EQ(streaming(":threshold=0.41", gates), "0110");
  EXPECT_EQ(streaming(":heads=0.1+1.0", gates), "1001");
  EXPECT_EQ(streaming(":heads=1", gates), "1100");
  ModelShape no_groups = OneLayer::small_shape();
  no_groups.n_heads = 2;
  const HeadProfile profile = gates_of(gates);
  no_groups.profile = &profile;
  const auto alone = Pipeline::parse("duo-attention", no_groups);
  ASSERT_TRUE(alone.has_value()) << alone.error().message;
  int full = 0;
  for (int head = 0; head < 4; ++head) full += alone->methods()[0]->rule(head / 2, head % 2) == KeyRule{};
  EXPECT_EQ(full, 1) << "heads that share no keys: 0.75 of them stream";
}

TEST(DuoAttention, OfEqualGatesTheFirstKeepEverything) {
  EXPECT_EQ(streaming("", {1, 1, 1, 1}), "0011");
  EXPECT_EQ(streaming("", {0.5, 0.5, 1, 0.5}), "0101");
}

TEST(DuoAttention, ControlsTakeOtherGates) {
  EXPECT_EQ(streaming(":gates=inverted", {0.9, 0.2, 0.4, 0.6}), "1001");
  EXPECT_EQ(streaming(":gates=inverted:threshold=0.7", {0.9, 0.2, 0.4, 0.6}), "1011");
  std::set<std::string> shuffled, drawn;
  for (int seed = 0; seed < 40; ++seed) {
    const std::string knobs = ":seed=" + std::to_string(seed);
    shuffled.insert(streaming(knobs + ":gates=shuffled", {0.9, 0.2, 0.4, 0.1}));
    drawn.insert(streaming(knobs + ":gates=random", {0.9, 0.2, 0.4, 0.1}));
    EXPECT_EQ(streaming(knobs + ":gates=random", {1, 1, 1, 1}), streaming(knobs + ":gates=random", {0, 1, 0, 1}));
  }
  EXPECT_THAT(shuffled, ElementsAre("0101")) << "layers are exchanged whole";
  EXPECT_EQ(drawn.size(), 6u);
  std::set<std::string> exchanged;
  for (int seed = 0; seed < 40; ++seed)
    exchanged.insert(streaming(":gates=shuffled:seed=" + std::to_string(seed), {0.9, 0.8, 0.2, 0.1}));
  EXPECT_THAT(exchanged, ElementsAre("0011", "1100"));
}

TEST(DuoAttention, LayersWithAWindowOfTheirOwnStay) {
  ModelShape shape = OneLayer::small_shape();
  AttentionShape site = shape.site(0);
  shape.attention = {site, site};
  shape.attention[0].window = 100;
  EXPECT_EQ(streaming("", {0.1, 0.2, 0.3, 0.4}, shape), "0010");
  EXPECT_EQ(streaming(":sparsity=1", {0.1, 0.2, 0.3, 0.4}, shape), "0011");
  EXPECT_EQ(streaming(":heads=1.1", {0.1, 0.2, 0.3, 0.4}, shape), "0010");
  shape.attention[1].window = 100;
  EXPECT_EQ(streaming("", {0.1, 0.2, 0.3, 0.4}, shape), "1100") << "but where all have one";
  EXPECT_THAT(streaming(":mix=true", {0.1, 0.2, 0.3, 0.4}, shape), HasSubstr("knob mix"));
}

TEST(DuoAttention, StreamingHeadsSeeTheFirstAndTheLastKeys) {
  for (const std::string chunks : {"60", "7"}) {
    OneLayer layer("duo-attention:sink=2:recent=3:heads=0.0"), dense;
    std::vector<float> z;
    for (int fed = 0; fed < 60; fed += std::stoi(chunks)) {
      const std::vector<float> part = layer.feed(std::min(std::stoi(chunks), 60 - fed));
      z.insert(z.end(), part.begin(), part.end());
    }
    const std::vector<float> full = dense.feed(60);
    for (const int row : {4, 9, 59}) {
      const auto sees = [row](int32_t key) { return key < 2 || key > row - 3; };
      for (int head = 2; head < 4; ++head)
        layer.expect_head(z, row, head, layer.weighed(head, layer.pattern(head, row, sees)));
      for (int head = 0; head < 2; ++head) EXPECT_EQ(layer.of_head(z, row, head), dense.of_head(full, row, head));
    }
  }
}

TEST(DuoAttention, WhileAllFitsNoGateShows) {
  for (const char* knobs : {":sparsity=1", ":sparsity=0.75", ":gates=random:sparsity=0.75", ":heads=0.1"}) {
    OneLayer layer("duo-attention:sink=8:recent=32" + std::string(knobs)), dense;
    EXPECT_EQ(layer.feed(39), dense.feed(39)) << knobs;
    EXPECT_EQ(layer.feed(1, true), dense.feed(1, true)) << knobs;
    EXPECT_NE(layer.feed(40), dense.feed(40)) << knobs;
  }
}

// 2 D bytes (n_full N + n_streaming min(N, S + R)), in whole pages.
TEST(DuoAttention, TheCacheHoldsWhatTheFormulaSays) {
  OneLayer layer("duo-attention:sink=64:recent=256:heads=0.1");
  for (int fed = 0; fed < 4096; fed += 512) layer.feed(512);
  EXPECT_EQ(layer.cache.n_keys(0, 0, 0), 64 + 256 - 1);
  EXPECT_EQ(layer.cache.n_keys(0, 0, 1), 4096);
  const uint64_t formula = layer.cache.ideal_bytes(0, 4096) + layer.cache.ideal_bytes(0, 320);
  EXPECT_NEAR(static_cast<double>(layer.cache.bytes()), static_cast<double>(formula),
              0.01 * static_cast<double>(formula));
  EXPECT_NEAR(static_cast<double>(layer.cache.bytes()) / static_cast<double>(2 * layer.cache.ideal_bytes(0, 4096)),
              0.539, 0.005);
  layer.feed(1, true);
  EXPECT_EQ(layer.cache.n_keys(0, 0, 0), 64 + 256 - 1);
}

TEST(DuoAttention, TheFirstChunkIsDenseWhereItIsAskedFor) {
  const std::string spec = "duo-attention:sink=2:recent=8:heads=0.0";
  OneLayer first(spec + ":prefill_first_dense=true"), exact(spec), dense;
  const std::vector<float> a = first.feed(50), b = exact.feed(50), c = dense.feed(50);
  EXPECT_EQ(a, c);
  EXPECT_NE(b, c);
  EXPECT_EQ(first.cache.n_keys(0, 0, 1), exact.cache.n_keys(0, 0, 1));
  const std::vector<float> after = first.feed(50), alike = exact.feed(50);
  EXPECT_THAT(after, Pointwise(testing::FloatNear(1e-5f), alike));
  EXPECT_THAT(first.feed(1, true), Pointwise(testing::FloatNear(1e-5f), exact.feed(1, true)));
}

// The layer's gates, as a file would have them.
tensor::Tensor set_gates(Pipeline& pipeline, const std::vector<float>& values) {
  const tensor::Parameter gate = pipeline.methods()[0]->parameters()[0];
  const tensor::Tensor t = tensor::Tensor::from({gate.shape[1], gate.shape[0]}, values);
  *gate.target = tensor::Weight::from(gate.name, t);
  EXPECT_TRUE(pipeline.methods()[0]->weights_bound(true).has_value());
  return t;
}

TEST(DuoAttention, GatesOfTheFileGoBeforeThoseOfTheProfile) {
  const HeadProfile profile = gates_of({0.9, 0.2, 0.4, 0.6});
  OneLayer layer("duo-attention:sink=2:recent=6", kernels::KvType::kF32, &profile);
  set_gates(layer.pipeline, {0.1f, 0.9f, 0.8f, 0.2f});
  layer.feed(40);
  EXPECT_LT(layer.cache.n_keys(0, 0, 0), 10);
  EXPECT_EQ(layer.cache.n_keys(0, 0, 1), 40);
}

TEST(DuoAttention, MixedBothWaysAreWeighedByTheGate) {
  OneLayer mix("duo-attention:sink=2:recent=6:mix=true"), dense, stream("duo-attention:sink=2:recent=6:sparsity=1");
  set_gates(mix.pipeline, {0.25f, 1, 0.5f, 0.5f});
  const std::vector<float> z = mix.feed(70), full = dense.feed(70), few = stream.feed(70);
  for (const int row : {3, 20, 69}) {
    for (int head = 0; head < 2; ++head) {
      const std::vector<float> a = dense.of_head(full, row, head), b = stream.of_head(few, row, head);
      std::vector<double> expected;
      for (size_t d = 0; d < a.size(); ++d) expected.push_back(0.25 * double{a[d]} + 0.75 * double{b[d]});
      mix.expect_head(z, row, head, expected);
    }
    EXPECT_EQ(mix.of_head(z, row, 2), dense.of_head(full, row, 2)) << "a gate of 1 is dense to the bit";
  }
  OneLayer parts("duo-attention:sink=2:recent=6:mix=true");
  set_gates(parts.pipeline, {0.25f, 1, 0.5f, 0.5f});
  std::vector<float> fed;
  for (int i = 0; i < 10; ++i) {
    const std::vector<float> one = parts.feed(7);
    fed.insert(fed.end(), one.begin(), one.end());
  }
  EXPECT_EQ(fed, z);
}

TEST(DuoAttention, OnTheTapeAGateOfOneIsDense) {
  OneLayer mix("duo-attention:sink=2:recent=6:mix=true"), dense;
  Batch batch;
  batch.add(std::vector<int32_t>(40, 0), 0, 0);
  tensor::Tape tape;
  tensor::Exec exec{.numerics = tensor::Numerics::kExact, .tape = &tape};
  const tensor::ExecScope scope(exec);
  const tensor::Tensor gates = mix.pipeline.methods()[0]->parameters()[0].target->value;
  tape.watch(gates);
  const auto qkv = mix.inputs(batch, 0);
  const tensor::Tensor z = mix.without_cache(batch, 0, qkv), full = dense.without_cache(batch, 0, qkv);
  EXPECT_THAT(z.values(), ::testing::ElementsAreArray(full.values()));
  // d sum(z) / d gate = sum over the group's outputs of z(all keys) - z(few keys).
  tape.backward(tensor::sum(z));
  OneLayer stream("duo-attention:sink=2:recent=6:sparsity=1");
  const std::vector<float> all = dense.feed(40), few = stream.feed(40);
  for (int kv = 0; kv < 2; ++kv) {
    double expected = 0;
    for (int row = 0; row < 40; ++row) {
      for (int head = 2 * kv; head < 2 * kv + 2; ++head) {
        const std::vector<float> a = dense.of_head(all, row, head), b = stream.of_head(few, row, head);
        for (size_t d = 0; d < a.size(); ++d) expected += double{a[d]} - double{b[d]};
      }
    }
    EXPECT_NEAR(tape.grad(gates).data()[kv], expected, 1e-3 * std::abs(expected) + 1e-4) << kv;
    EXPECT_EQ(tape.grad(gates).data()[2 + kv], 0) << "another layer";
  }
}

TEST(DuoAttention, TrainingKeepsGatesWithinZeroAndOne) {
  const auto deployed = Pipeline::parse("duo-attention", OneLayer::small_shape());
  ASSERT_TRUE(deployed.has_value());
  EXPECT_TRUE(deployed->methods()[0]->parameters()[0].fixed);
  const auto pipeline = Pipeline::parse("duo-attention:mix=true", OneLayer::small_shape());
  ASSERT_TRUE(pipeline.has_value());
  const tensor::Parameter gate = pipeline->methods()[0]->parameters()[0];
  EXPECT_FALSE(gate.fixed);
  EXPECT_THAT(gate.shape, ElementsAre(2, 2));
  EXPECT_EQ(gate.least, 0);
  EXPECT_EQ(gate.most, 1);
}

TEST(DuoAttention, WhatIsWrongNamesTheKnob) {
  const auto message = [](const std::string& knobs) { return streaming(knobs, {1, 1, 0, 0}); };
  EXPECT_THAT(message(":recent=0"), AllOf(HasSubstr("duo-attention"), HasSubstr("recent")));
  EXPECT_THAT(message(":sparsity=1.5"), HasSubstr("sparsity"));
  EXPECT_THAT(message(":gates=learnt"), HasSubstr("gates"));
  EXPECT_THAT(message(":sparsity=0.5:threshold=0.5"), HasSubstr("knobs sparsity and threshold"));
  EXPECT_THAT(message(":heads=0:sparsity=0.5"), HasSubstr("knobs heads and sparsity"));
  EXPECT_THAT(message(":heads=0:gates=random"), HasSubstr("knobs heads and gates"));
  EXPECT_THAT(message(":heads=0.2"), HasSubstr("head 2 is not in this model of 2"));
  const auto together = Pipeline::parse("duo-attention,streaming-llm", OneLayer::small_shape());
  ASSERT_FALSE(together.has_value());
  EXPECT_THAT(together.error().message, HasSubstr("cannot run together"));
}

TEST(DuoAttention, WithoutGatesItSaysWhereTheyComeFrom) {
  const auto bound = [](const std::string& spec) {
    const auto pipeline = Pipeline::parse(spec, OneLayer::small_shape());
    EXPECT_TRUE(pipeline.has_value()) << pipeline.error().message;
    const Status status = pipeline->methods()[0]->weights_bound(false);
    return status ? std::string() : status.error().message;
  };
  EXPECT_THAT(bound("duo-attention"), AllOf(HasSubstr("no gates"), HasSubstr("docs/train.md")));
  for (const char* knobs : {":heads=0.1", ":gates=random", ":mix=true", ":sparsity=0", ":sparsity=1"})
    EXPECT_EQ(bound("duo-attention" + std::string(knobs)), "") << knobs;
}

}  // namespace duo_attention_test
}  // namespace fovea::attention
