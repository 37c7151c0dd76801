#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "fovea/base/random.h"
#include "fovea/kernels/attention.h"

namespace fovea::kernels {
namespace page_test {

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

TEST(Page, EveryInstructionSetWritesTheSameBytesAndNoOtherSlot) {
  Rng rng(4);
  for (KvType type : {KvType::kF32, KvType::kI16, KvType::kQ8_0}) {
    for (const int head_dim : {8, 16, 24, 64, 80, 128, 256}) {
      const auto n = static_cast<size_t>(head_dim);
      for (const int slot : {0, 1, 17, 30, 31}) {
        std::vector<float> k(n), v(n);
        for (size_t d = 0; d < n; ++d) k[d] = static_cast<float>(rng.normal()), v[d] = static_cast<float>(rng.normal());
        if (slot == 17) k[n / 2] = -std::numeric_limits<float>::infinity(), v[0] = std::nanf("");
        if (slot == 30) std::fill(k.begin(), k.end(), 0.0f);
        const auto values_at = static_cast<std::ptrdiff_t>(key_bytes(type, head_dim));
        const std::vector<char> blank(key_bytes(type, head_dim) + value_bytes(type, head_dim), 0x5a);
        const auto write = [&](Isa isa, std::vector<char>& page) {
          key_write.for_isa(isa)(page.data(), type, head_dim, slot, k.data());
          value_write.for_isa(isa)(page.data() + values_at, type, head_dim, slot, v.data());
        };
        std::vector<char> want = blank;
        write(Isa::kPortable, want);
        EXPECT_NE(want, blank);
        for (const Isa isa : {Isa::kAvx2, Isa::kAvx512}) {
          if (!machine_has(isa)) continue;
          std::vector<char> got = blank;
          write(isa, got);
          EXPECT_EQ(got, want) << name_of(type) << " " << head_dim << " " << slot << " " << name_of(isa);
        }
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

TEST(Page, Q8KeepsWhatStandsBesideALargeColumnAndEveryValue) {
  constexpr int kColumns = 80;  // a block of 64 that is mixed, one of 16
  std::vector<char> keys(key_bytes(KvType::kQ8_0, kColumns)), values(value_bytes(KvType::kQ8_0, kColumns));
  const auto element = [](int slot, int d) {
    return d == 5 ? 100.0f : std::sin(static_cast<float>(slot * kColumns + d)) * (d < 64 ? 1.0f : 0.01f);
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
  const float step = 1.01f / 127.0f;  // of 1; a bfloat16 scale is up to 2^-7 too large
  double squares = 0;
  for (int slot = 0; slot < kPageKeys; ++slot) {
    key_read(keys.data(), KvType::kQ8_0, kColumns, slot, k.data());
    value_read(values.data(), KvType::kQ8_0, kColumns, slot, v.data());
    for (int d = 0; d < kColumns; ++d) {
      const float error = k[static_cast<size_t>(d)] - element(slot, d);
      // Mixed, a column is at most (100 + 63) / 64, and all their halves of a step may come together again.
      EXPECT_LE(std::abs(error), d < 64 ? 163.0f * step / 2 : 0.16f * step / 2) << d;
      if (d < 64) squares += double{error} * double{error};
      EXPECT_NEAR(v[static_cast<size_t>(d)], -0.01f * element(slot, d), step / 2);
    }
  }
  // With the steps of the large column, those beside it would be off by 100 step / sqrt(12) = 0.23.
  EXPECT_LT(std::sqrt(squares / (64 * kPageKeys)), 0.06);
}

TEST(Page, Q8ShowsWhatIsNotFinite) {
  EXPECT_TRUE(std::isnan(through_page(KvType::kQ8_0, std::numeric_limits<float>::quiet_NaN())));
  EXPECT_TRUE(std::isnan(through_page(KvType::kQ8_0, std::numeric_limits<float>::infinity())));
  EXPECT_TRUE(std::isnan(through_page(KvType::kQ8_0, -std::numeric_limits<float>::infinity())));
  EXPECT_EQ(through_page(KvType::kQ8_0, 0.0f), 0.0f);
  EXPECT_NEAR(through_page(KvType::kQ8_0, 3e38f), 3e38f, 3e38f / 127);
  EXPECT_EQ(through_page(KvType::kQ8_0, 127.0f), 127.0f);
}

}  // namespace page_test
}  // namespace fovea::kernels
