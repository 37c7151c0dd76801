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
  std::vector<float> page(page_bytes(type, kDim) / 4), k(kDim, value), v(kDim, -value);
  page_write(page.data(), type, kDim, 5, k.data(), v.data());
  page_read(page.data(), type, kDim, 5, k.data(), v.data());
  return k[kDim - 1];
}

TEST(Page, HoldsEveryKeyAndValueOfEverySlot) {
  for (KvType type : {KvType::kF32, KvType::kF16}) {
    std::vector<float> page(page_bytes(type, kDim) / 4), k(kDim), v(kDim);
    for (int slot = 0; slot < kPageKeys; ++slot) {
      for (int d = 0; d < kDim; ++d) {
        k[static_cast<size_t>(d)] = static_cast<float>(slot * kDim + d);
        v[static_cast<size_t>(d)] = static_cast<float>(-d - slot);
      }
      page_write(page.data(), type, kDim, slot, k.data(), v.data());
    }
    for (int slot = 0; slot < kPageKeys; ++slot) {
      page_read(page.data(), type, kDim, slot, k.data(), v.data());
      for (int d = 0; d < kDim; ++d) {
        EXPECT_EQ(k[static_cast<size_t>(d)], static_cast<float>(slot * kDim + d));
        EXPECT_EQ(v[static_cast<size_t>(d)], static_cast<float>(-d - slot));
      }
    }
  }
}

TEST(Page, HalvesRoundToNearestEven) {
  EXPECT_EQ(through_page(KvType::kF16, 1.0f + 0x1p-11f), 1.0f);                // a tie goes to even
  EXPECT_EQ(through_page(KvType::kF16, 1.0f + 3 * 0x1p-11f), 1.0f + 0x1p-9f);  // and up to even
  EXPECT_EQ(through_page(KvType::kF16, 65504.0f), 65504.0f);
  EXPECT_EQ(through_page(KvType::kF16, 65520.0f), std::numeric_limits<float>::infinity());
  EXPECT_EQ(through_page(KvType::kF16, 0x1p-24f), 0x1p-24f);  // the smallest subnormal
  EXPECT_EQ(through_page(KvType::kF16, 0x1p-25f), 0.0f);
  EXPECT_EQ(through_page(KvType::kF16, -3 * 0x1p-24f), -3 * 0x1p-24f);
  EXPECT_TRUE(std::isnan(through_page(KvType::kF16, std::numeric_limits<float>::quiet_NaN())));
}

TEST(Page, Q8HoldsEverySlotToHalfAStepOfItsGroup) {
  constexpr int kColumns = 80;  // two groups and a half
  std::vector<char> page(page_bytes(KvType::kQ8_0, kColumns));
  const auto element = [](int slot, int d) {
    return std::sin(static_cast<float>(slot * kColumns + d)) * (d < 32 ? 100.0f : 0.01f);
  };
  std::vector<float> k(kColumns), v(kColumns);
  for (int slot = 0; slot < kPageKeys; ++slot) {
    for (int d = 0; d < kColumns; ++d) {
      k[static_cast<size_t>(d)] = element(slot, d);
      v[static_cast<size_t>(d)] = -element(slot, d);
    }
    page_write(page.data(), KvType::kQ8_0, kColumns, slot, k.data(), v.data());
  }
  for (int slot = 0; slot < kPageKeys; ++slot) {
    page_read(page.data(), KvType::kQ8_0, kColumns, slot, k.data(), v.data());
    for (int d = 0; d < kColumns; ++d) {
      const float step = (d < 32 ? 100.0f : 0.01f) / 127.0f * 1.06f;  // the half scale may be 2^-11 off, times 127
      EXPECT_NEAR(k[static_cast<size_t>(d)], element(slot, d), step / 2);
      EXPECT_NEAR(v[static_cast<size_t>(d)], -element(slot, d), step / 2);
    }
  }
}

TEST(Page, Q8ShowsWhatIsNotFinite) {
  EXPECT_TRUE(std::isnan(through_page(KvType::kQ8_0, std::numeric_limits<float>::quiet_NaN())));
  EXPECT_TRUE(std::isnan(through_page(KvType::kQ8_0, std::numeric_limits<float>::infinity())));
  EXPECT_EQ(through_page(KvType::kQ8_0, 0.0f), 0.0f);
  EXPECT_EQ(through_page(KvType::kQ8_0, 127.0f), 127.0f);
}

}  // namespace
}  // namespace fovea::kernels
