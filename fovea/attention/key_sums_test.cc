#include "fovea/attention/key_sums.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "fovea/attention/testing/one_layer.h"
#include "fovea/tensor/ops/attention/rope.h"

namespace fovea::attention {
namespace key_sums_test {

TEST(KeySums, AreTheWeightsOfTheRowsOverTheLiveKeys) {
  for (const kernels::KvType type : {kernels::KvType::kF32, kernels::KvType::kI16, kernels::KvType::kQ8_0}) {
    OneLayer layer("dense", type);
    layer.feed(75);
    Batch batch;
    batch.add(std::vector<int32_t>(5, 0), 70, 0);  // the last rows
    tensor::RopeAngles angles = tensor::make_rope_angles(batch.positions, layer.rope());
    const tensor::Tensor q = tensor::rope(layer.inputs(batch, 0)[0], angles);
    const auto alive = [](int32_t key) { return key % 3 != 0; };
    for (int kv = 0; kv < 2; ++kv) {
      layer.cache.retain(0, 0, kv, alive);
      const KeySums found = key_sums(layer.cache, 0, layer.shape().site(0), 0, kv, q.data(), batch.positions);
      EXPECT_EQ(found.positions, layer.cache.positions(0, 0, kv));
      std::vector<double> sums(75, 0.0);
      for (int head = 2 * kv; head < 2 * kv + 2; ++head) {
        for (int row = 70; row < 75; ++row) {
          const std::vector<double> weights = layer.pattern(head, row, alive);
          for (size_t key = 0; key < weights.size(); ++key) sums[key] += weights[key];
        }
      }
      const double most = type == kernels::KvType::kF32 ? 1e-5 : type == kernels::KvType::kI16 ? 1e-3 : 3e-2;
      for (size_t i = 0; i < found.sums.size(); ++i)
        EXPECT_NEAR(found.sums[i], sums[static_cast<size_t>(found.positions[i])], most) << name_of(type);
    }
  }
}

// Fed in parts they are those of all rows at once, to the bit, and of each query head.
TEST(KeySums, OfAllRowsAddUp) {
  OneLayer layer;
  layer.feed(40);
  Batch batch;
  batch.add(std::vector<int32_t>(40, 0), 0, 0);
  const tensor::Tensor q =
      tensor::rope(layer.inputs(batch, 0)[0], tensor::make_rope_angles(batch.positions, layer.rope()));
  const std::span<const int32_t> positions(batch.positions);
  const int64_t row = q.dim(1) * q.dim(2);
  AllSums whole, parts;
  add_key_sums(layer.cache, 0, layer.shape().site(0), 0, 1, q.data(), positions, whole);
  add_key_sums(layer.cache, 0, layer.shape().site(0), 0, 1, q.data(), positions.first(13), parts);
  add_key_sums(layer.cache, 0, layer.shape().site(0), 0, 1, q.data() + 13 * row, positions.subspan(13), parts);
  EXPECT_EQ(parts.positions, whole.positions);
  EXPECT_EQ(parts.sums, whole.sums);
  for (int g = 0; g < 2; ++g) {
    std::vector<double> sums(40, 0.0);
    for (int at = 0; at < 40; ++at) {
      const std::vector<double> weights = layer.pattern(2 + g, at, [](int32_t) { return true; });
      for (size_t key = 0; key < weights.size(); ++key) sums[key] += weights[key];
    }
    for (size_t key = 0; key < 40; ++key)
      EXPECT_NEAR(whole.sums[static_cast<size_t>(g) * 40 + key], sums[key], 1e-4) << g << " " << key;
  }
}

TEST(KeySums, AShareIsRoundedUpAndABudgetGoesBefore) {
  EXPECT_EQ(n_kept(0.25, 0, 10), 3u);
  EXPECT_EQ(n_kept(0, 0, 10), 0u);
  EXPECT_EQ(n_kept(0.25, 7, 10), 7u);
}

}  // namespace key_sums_test
}  // namespace fovea::attention
