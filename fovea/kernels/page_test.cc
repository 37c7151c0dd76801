#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "fovea/kernels/attention.h"

namespace fovea::kernels {
namespace {

constexpr int kDim = 16;

// What a page of `type` gives back for one value.
float through_page(KvType type, float value) {
  std::vector<float> page(key_bytes(type, kDim) / 4), k(kDim, value);
  key_write(page.data(), type, kDim, 5, k.data());
  key_read(page.data(), type, kDim, 5, k.data());
  return k[kDim - 1];
}

TEST(Page, HoldsEveryKeyAndValueOfEverySlot) {
  for (KvType type : {KvType::kF32, KvType::kI16}) {
    std::vector<float> keys(key_bytes(type, kDim) / 4), values(value_bytes(type, kDim) / 4), k(kDim), v(kDim);
    const auto element = [](int slot, int d) { return static_cast<float>(slot * kDim + d); };
    for (int slot = 0; slot < kPageKeys; ++slot) {
      for (int d = 0; d < kDim; ++d) {
        k[static_cast<size_t>(d)] = element(slot, d);
        v[static_cast<size_t>(d)] = -element(slot, d) - 1;
      }
      key_write(keys.data(), type, kDim, slot, k.data());
      value_write(values.data(), type, kDim, slot, v.data());
    }
    for (int slot = 0; slot < kPageKeys; ++slot) {
      key_read(keys.data(), type, kDim, slot, k.data());
      value_read(values.data(), type, kDim, slot, v.data());
      // Half a step of the largest element; a bfloat16 scale is up to 2^-7 too large.
      const float largest = element(slot, kDim) * (type == KvType::kI16 ? 1.01f : 0.0f);
      for (int d = 0; d < kDim; ++d) {
        EXPECT_NEAR(k[static_cast<size_t>(d)], element(slot, d), largest / 4095 / 2);
        EXPECT_NEAR(v[static_cast<size_t>(d)], -element(slot, d) - 1, largest / 2047 / 2);
      }
    }
  }
}

TEST(Page, CopiesASlotToTheBit) {
  for (KvType type : {KvType::kF32, KvType::kI16, KvType::kQ8_0}) {
    std::vector<float> from((key_bytes(type, kDim) + value_bytes(type, kDim)) / 4), to(from.size());
    std::vector<float> k(kDim), v(kDim), k2(kDim), v2(kDim);
    const size_t values = key_bytes(type, kDim) / 4;
    for (int d = 0; d < kDim; ++d) {
      k[static_cast<size_t>(d)] = std::sin(static_cast<float>(d));
      v[static_cast<size_t>(d)] = std::cos(static_cast<float>(d)) * 1e-3f;
    }
    key_write(from.data(), type, kDim, 3, k.data());
    value_write(from.data() + values, type, kDim, 3, v.data());
    key_read(from.data(), type, kDim, 3, k.data());
    value_read(from.data() + values, type, kDim, 3, v.data());
    key_copy(to.data(), 30, from.data(), 3, type, kDim);
    value_copy(to.data() + values, 30, from.data() + values, 3, type, kDim);
    key_read(to.data(), type, kDim, 30, k2.data());
    value_read(to.data() + values, type, kDim, 30, v2.data());
    EXPECT_EQ(k, k2);
    EXPECT_EQ(v, v2);
    EXPECT_NE(k[1], 0.0f);
  }
}

TEST(Page, CodesShowWhatIsNotFinite) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  EXPECT_TRUE(std::isnan(through_page(KvType::kI16, std::numeric_limits<float>::quiet_NaN())));
  EXPECT_TRUE(std::isnan(through_page(KvType::kI16, kInf)));
  EXPECT_TRUE(std::isnan(through_page(KvType::kI16, -kInf)));
  EXPECT_EQ(through_page(KvType::kI16, 0.0f), 0.0f);
  EXPECT_EQ(through_page(KvType::kI16, 1e-42f), 0.0f);  // its scale would be no normal float
  EXPECT_NEAR(through_page(KvType::kI16, 3e38f), 3e38f, 3e38f / 4095);
  EXPECT_NEAR(through_page(KvType::kI16, -1e-30f), -1e-30f, 1e-30f / 4095);
}

TEST(Page, Q8HoldsEverySlotToHalfAStepOfItsKeysGroupAndItsValue) {
  constexpr int kColumns = 80;  // two groups and a half
  std::vector<char> keys(key_bytes(KvType::kQ8_0, kColumns)), values(value_bytes(KvType::kQ8_0, kColumns));
  const auto element = [](int slot, int d) {
    return std::sin(static_cast<float>(slot * kColumns + d)) * (d < 32 ? 100.0f : 0.01f);
  };
  std::vector<float> k(kColumns), v(kColumns);
  for (int slot = 0; slot < kPageKeys; ++slot) {
    for (int d = 0; d < kColumns; ++d) {
      k[static_cast<size_t>(d)] = element(slot, d);
      v[static_cast<size_t>(d)] = -0.01f * element(slot, d);
    }
    key_write(keys.data(), KvType::kQ8_0, kColumns, slot, k.data());
    value_write(values.data(), KvType::kQ8_0, kColumns, slot, v.data());
  }
  for (int slot = 0; slot < kPageKeys; ++slot) {
    key_read(keys.data(), KvType::kQ8_0, kColumns, slot, k.data());
    value_read(values.data(), KvType::kQ8_0, kColumns, slot, v.data());
    for (int d = 0; d < kColumns; ++d) {
      const float step = 1.01f / 127.0f;  // of 1; a bfloat16 scale is up to 2^-7 too large
      EXPECT_NEAR(k[static_cast<size_t>(d)], element(slot, d), step * (d < 32 ? 100.0f : 0.01f) / 2);
      EXPECT_NEAR(v[static_cast<size_t>(d)], -0.01f * element(slot, d), step / 2);
    }
  }
}

TEST(Page, Q8ShowsWhatIsNotFinite) {
  EXPECT_TRUE(std::isnan(through_page(KvType::kQ8_0, std::numeric_limits<float>::quiet_NaN())));
  EXPECT_TRUE(std::isnan(through_page(KvType::kQ8_0, std::numeric_limits<float>::infinity())));
  EXPECT_TRUE(std::isnan(through_page(KvType::kQ8_0, -std::numeric_limits<float>::infinity())));
  EXPECT_EQ(through_page(KvType::kQ8_0, 0.0f), 0.0f);
  EXPECT_NEAR(through_page(KvType::kQ8_0, 3e38f), 3e38f, 3e38f / 127);
  EXPECT_EQ(through_page(KvType::kQ8_0, 127.0f), 127.0f);
}

}  // namespace
}  // namespace fovea::kernels
