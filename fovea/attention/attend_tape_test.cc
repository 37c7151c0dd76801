// Attention without a cache is that with one, and has gradients, whatever the methods choose.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "fovea/attention/testing/methods.h"
#include "fovea/attention/testing/one_layer.h"
#include "fovea/base/check.h"
#include "fovea/tensor/testing/gradient_check.h"

namespace fovea::attention {
namespace attend_tape_test {

using tensor::Tensor;

constexpr const char* kSpecs[] = {"dense",
                                  "test-strided:stride=3",
                                  "test-long-keys:least=4.2",
                                  "test-rule:window=5:n_sink=2",
                                  "test-pages:every=3",
                                  "test-pages:every=3:head=1",
                                  "test-classes:sinks=0.5",
                                  "test-nearer:limit=8:bias=-0.5",
                                  "test-positions:shift=3",
                                  "scale:value=2:heads=0.1+1",
                                  "test-nearer:limit=8,test-classes:sinks=0.25,test-positions:shift=3,scale:value=-1",
                                  "test-rule:window=1"};

// Two sequences, the first in two phases.
Batch two_sequences(int n) {
  Batch batch;
  batch.add(std::vector<int32_t>(static_cast<size_t>(n), 0), 0, 0);
  batch.add(std::vector<int32_t>(5, 0), n, 0, Phase::kPromptEnd);
  batch.add(std::vector<int32_t>(static_cast<size_t>(n / 2), 0), 0, 1);
  return batch;
}

void expect_same_with_and_without(OneLayer& layer) {
  const Batch batch = two_sequences(140);
  const std::vector<float> cached = layer.run(batch, 1);
  const Tensor alone = layer.without_cache(batch, 1, layer.inputs(batch, 1));
  ASSERT_EQ(static_cast<size_t>(alone.elements()), cached.size());
  for (size_t i = 0; i < cached.size(); ++i) ASSERT_NEAR(alone.data()[i], cached[i], 2e-5) << i;
}

TEST(AttendOnTape, GivesWhatTheCacheGives) {
  for (const std::string spec : kSpecs) {
    SCOPED_TRACE(spec);
    OneLayer layer(spec);
    expect_same_with_and_without(layer);
  }
}

TEST(AttendOnTape, KnowsWindowsSoftCapsAndLayersWithoutOrder) {
  for (const char* spec : {"dense", "test-rule:window=50:n_sink=2", "test-nearer:limit=8"}) {
    SCOPED_TRACE(spec);
    OneLayer layer(spec);
    layer.use([](AttentionShape& site) { site.window = 40, site.softcap = 2; });
    expect_same_with_and_without(layer);
  }
  OneLayer both_ways("scale:value=2");
  both_ways.use([](AttentionShape& site) { site.causal = false, site.rope = AttentionShape::kNoRope; });
  expect_same_with_and_without(both_ways);
}

TEST(AttendOnTape, SinksTakeTheirShareAndHaveGradients) {
  for (const char* spec : {"dense", "test-pages:every=3", "test-classes:sinks=0.5"}) {
    SCOPED_TRACE(spec);
    OneLayer layer(spec);
    layer.sinks = Tensor::from({4}, std::vector<float>{-1, 0.5f, 2, 4});
    expect_same_with_and_without(layer);
    const Batch batch = two_sequences(2);
    const auto qkv = layer.inputs(batch, 0);
    tensor::expect_gradients({qkv[0], qkv[1], qkv[2], layer.sinks}, [&] { return layer.without_cache(batch, 0, qkv); });
  }
}

TEST(AttendOnTape, KeysAndValuesMayDifferInTheirNumberOfHeads) {
  for (const auto& [n_k, n_v] : {std::pair(1, 2), std::pair(2, 1)}) {
    OneLayer layer("test-pages:every=3,scale:value=2", kernels::KvType::kF32, nullptr, OneLayer::shape_of(4, n_k, n_v));
    expect_same_with_and_without(layer);
    const Batch batch = two_sequences(2);
    const auto qkv = layer.inputs(batch, 0);
    tensor::expect_gradients({qkv[0], qkv[1], qkv[2]}, [&] { return layer.without_cache(batch, 0, qkv); });
  }
}

TEST(AttendOnTape, GradientsOfEveryStageMeetFiniteDifferences) {
  Batch batch = two_sequences(2);
  for (const std::string spec : kSpecs) {
    SCOPED_TRACE(spec);
    OneLayer layer(spec);
    layer.use([](AttentionShape& site) { site.softcap = 3; });
    const auto qkv = layer.inputs(batch, 0);
    tensor::expect_gradients({qkv[0], qkv[1], qkv[2]}, [&] { return layer.without_cache(batch, 0, qkv); });
  }
}

TEST(AttendOnTape, KeysFromElsewhereHaveGradients) {
  OneLayer layer;
  layer.use([](AttentionShape& site) { site.causal = false, site.rope = AttentionShape::kNoRope; });
  Batch rows, keys;
  rows.add({{0, 0, 0}}, 0, 0), keys.add(std::vector<int32_t>(40, 0), 0, 0);
  const Tensor q = layer.inputs(rows, 0)[0];
  const auto [unused, k, v] = layer.inputs(keys, 0);
  const Tensor key = k, value = v;
  const auto cross = [&](KvCache* cache) {
    Attend attend({.model = layer.shape(), .ropes = {}, .batch = rows, .cache = cache});
    return attend.cross(0, q, key, value);
  };
  const Tensor cached = cross(&layer.cache), alone = cross(nullptr);
  for (int64_t i = 0; i < alone.elements(); ++i) ASSERT_NEAR(alone.data()[i], cached.data()[i], 1e-5) << i;
  tensor::expect_gradients({q, key, value}, [&] { return cross(nullptr); });
}

TEST(AttendOnTape, WhatHasNoGradientIsRefusedByName) {
  Batch batch = two_sequences(6);
  OneLayer rows("test-rows:factor=2");
  try {
    rows.without_cache(batch, 0, rows.inputs(batch, 0));
    FAIL() << "rows were edited";
  } catch (const CheckFailed& refused) {
    EXPECT_NE(std::string(refused.what()).find("test-rows"), std::string::npos) << refused.what();
  }
}

// Negates v where it lies.
class InPlace final : public Method {
 public:
  static constexpr MethodInfo kInfo{
      .name = "test-in-place", .title = "In place", .paper = "none", .stages = kInputs, .summary = "for tests"};
  const MethodInfo& info() const override { return kInfo; }
  bool edits_inputs(int) const override { return true; }
  void edit_inputs(const Call&, Inputs& in) const override {
    for (int64_t i = 0; i < in.v.elements(); ++i) in.v.data()[i] *= -1;
  }
};
FOVEA_REGISTER_METHOD(InPlace);

TEST(AttendOnTape, AMethodThatWritesInPlaceIsRefusedThereAndTakenElsewhere) {
  Batch batch = two_sequences(6);
  OneLayer layer("test-in-place"), moved("test-positions:shift=0");
  const auto qkv = layer.inputs(batch, 0);
  tensor::Tape tape;
  tape.watch(qkv[2]);
  tensor::Exec exec{.tape = &tape};
  {
    tensor::ExecScope scope(exec);
    EXPECT_THROW(layer.without_cache(batch, 0, qkv), CheckFailed);
  }
  EXPECT_EQ(layer.run(batch, 0), moved.run(batch, 0));
}

}  // namespace attend_tape_test
}  // namespace fovea::attention
