#include "fovea/attention/own_page.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "fovea/tensor/ops/attention/rope.h"

namespace fovea::attention {
namespace own_page_test {

const KeyPlan::Layout kLayout{kernels::KvType::kF32, kernels::KvType::kF32, 8, 16};

TEST(OwnPage, HoldsWhatWasPutAndIsEmptyElsewhere) {
  OwnPage page(kLayout);
  const std::vector<float> k = {1, 2, 3, 4, 5, 6}, v(16, 7);
  page.put(3, 42, k, v);  // narrower than the layout
  OwnPage copy(page);
  page.clear(3);
  EXPECT_EQ(page.position(3), kernels::kNoPosition);
  EXPECT_EQ(copy.position(3), 42);
  EXPECT_EQ(copy.position(2), kernels::kNoPosition);
  std::vector<float> key(8, -1), value(16, -1);
  kernels::key_read(copy.block().k, kLayout.k_type, 8, 3, key.data());
  kernels::value_read(copy.block().v, kLayout.v_type, 16, 3, value.data());
  EXPECT_EQ(key, (std::vector<float>{1, 2, 3, 4, 5, 6, 0, 0}));
  EXPECT_EQ(value, v);
  OwnPage other(kLayout);
  other.put(0, 5, copy.block(), 3);
  other.put(1, 6, std::vector<float>(8, 2), copy.block(), 3);
  kernels::key_read(other.block().k, kLayout.k_type, 8, 0, key.data());
  EXPECT_EQ(key[5], 6);
  kernels::key_read(other.block().k, kLayout.k_type, 8, 1, key.data());
  EXPECT_EQ(key[5], 2);
  kernels::value_read(other.block().v, kLayout.v_type, 16, 1, value.data());
  EXPECT_EQ(value, v);
}

TEST(KeyTurns, TurnAsRopeDoesAndMoveOnFromThere) {
  for (const tensor::RopePairing pairing : {tensor::RopePairing::kHalves, tensor::RopePairing::kAdjacent}) {
    tensor::RopeTable table{.inv_freq = {1.0f, 0.1f, 0.003f}, .attn_factor = 1.25f, .pairing = pairing};
    const KeyTurns turns(table);
    const std::vector<float> key = {1, -2, 3, 0.5f, 0.25f, -1, 9, 8};  // the last two do not turn
    for (const int32_t to : {0, 1, 127, 128, 5000, 70000}) {
      tensor::Tensor x = tensor::Tensor::empty({1, 1, 8});
      std::copy(key.begin(), key.end(), x.data());
      x = tensor::rope(x, std::vector<int32_t>{to}, table);
      std::vector<float> turned = key, moved = key;
      turns.turn(to, turned);
      turns.turn(1000, moved);
      turns.move(to - 1000, moved);
      for (size_t d = 0; d < key.size(); ++d) {
        EXPECT_NEAR(turned[d], x.data()[d], 3e-6) << to << " " << d;
        EXPECT_NEAR(moved[d], x.data()[d], 3e-6) << to << " " << d;
      }
    }
  }
}

}  // namespace own_page_test
}  // namespace fovea::attention
