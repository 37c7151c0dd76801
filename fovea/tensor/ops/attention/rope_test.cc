#include "fovea/tensor/ops/attention/rope.h"

#include <gtest/gtest.h>

#include <cmath>

#include "fovea/base/check.h"
#include "fovea/tensor/testing/gradient_check.h"

namespace fovea::tensor {
namespace rope_test {

TEST(Rope, HalvesRotateElementIWithElementIPlusHalf) {
  const Tensor x = Tensor::from({1, 1, 4}, std::vector<float>{1, 2, 3, 4});
  const RopeTable table{.inv_freq = {0.5f, 0.25f}};
  const Tensor y = rope(x, std::vector<int32_t>{2}, table);
  EXPECT_NEAR(y.data()[0], std::cos(1.0) - 3 * std::sin(1.0), 1e-6);
  EXPECT_NEAR(y.data()[2], std::sin(1.0) + 3 * std::cos(1.0), 1e-6);
  EXPECT_NEAR(y.data()[1], 2 * std::cos(0.5) - 4 * std::sin(0.5), 1e-6);
}

TEST(Rope, AdjacentRotatesNeighbours) {
  const Tensor x = Tensor::from({1, 1, 4}, std::vector<float>{1, 2, 3, 4});
  const RopeTable table{.inv_freq = {0.5f, 0.25f}, .pairing = RopePairing::kAdjacent};
  const Tensor y = rope(x, std::vector<int32_t>{2}, table);
  EXPECT_NEAR(y.data()[0], std::cos(1.0) - 2 * std::sin(1.0), 1e-6);
  EXPECT_NEAR(y.data()[1], std::sin(1.0) + 2 * std::cos(1.0), 1e-6);
  EXPECT_NEAR(y.data()[3], 3 * std::sin(0.5) + 4 * std::cos(0.5), 1e-6);
}

TEST(Rope, PositionZeroAndElementsPastTheRotaryPartStay) {
  const Tensor x = random_tensor({2, 3, 10}, 1);
  const Tensor y = rope(x, std::vector<int32_t>{0, 5}, {.inv_freq = {1.0f, 0.1f, 0.01f}});
  for (int64_t i = 0; i < 30; ++i) EXPECT_EQ(y.data()[i], x.data()[i]);
  for (int64_t h = 0; h < 3; ++h) {
    for (int64_t i = 6; i < 10; ++i) EXPECT_EQ(y.data()[30 + h * 10 + i], x.data()[30 + h * 10 + i]);
    EXPECT_NE(y.data()[30 + h * 10], x.data()[30 + h * 10]);
  }
}

TEST(Rope, FarPositionsKeepDoublePrecisionOfTheAngle) {
  // In float32 the angle would be off by up to 0.004 here.
  const RopeAngles angles = make_rope_angles(std::vector<int32_t>{100'003}, {.inv_freq = {0.7f}});
  EXPECT_NEAR(angles.cos.data()[0], std::cos(static_cast<double>(0.7f) * 100'003), 1e-7);
}

TEST(Rope, RefusesAnglesForOtherTokens) {
  const RopeAngles angles = make_rope_angles(std::vector<int32_t>{0, 1}, {.inv_freq = {1.0f}});
  EXPECT_THROW(rope(Tensor::zeros({3, 1, 2}), angles), CheckFailed);
  EXPECT_THROW(rope(Tensor::zeros({2, 1, 1}), angles), CheckFailed);
}

TEST(Rope, GradientMeetsFiniteDifferences) {
  const Tensor x = random_tensor({2, 2, 6}, 2);
  const std::vector<int32_t> positions = {3, 11};
  for (const RopePairing pairing : {RopePairing::kHalves, RopePairing::kAdjacent}) {
    const RopeTable table{.inv_freq = {1.0f, 0.3f}, .attn_factor = 1.25f, .pairing = pairing};
    expect_gradients({x}, [&] { return rope(x, positions, table); });
  }
}

}  // namespace rope_test
}  // namespace fovea::tensor
