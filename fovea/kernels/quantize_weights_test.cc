#include "fovea/kernels/quantize_weights.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "fovea/base/random.h"
#include "fovea/kernels/matmul.h"

namespace fovea::kernels {
namespace quantize_weights_test {

std::vector<DType> types() {
  std::vector<DType> out;
  for (int32_t number = 0; number < 64; ++number) {
    if (dtype_info(number) && can_quantize(static_cast<DType>(number))) out.push_back(static_cast<DType>(number));
  }
  return out;
}

std::vector<uint8_t> made(DType type, const std::vector<float>& x, const float* importance = nullptr) {
  std::vector<uint8_t> out(row_bytes(type, static_cast<int64_t>(x.size())), 0xAA);
  quantize_weights(type, x.data(), importance, static_cast<int64_t>(x.size()), out.data());
  return out;
}
std::vector<float> there_and_back(DType type, const std::vector<float>& x, const float* importance = nullptr) {
  const auto blocks = made(type, x, importance);
  std::vector<float> out(x.size());
  dequantize(type, blocks.data(), static_cast<int64_t>(x.size()), out.data());
  return out;
}
std::vector<float> random_weights(size_t n, double size = 0.02) {
  Rng rng(11);
  std::vector<float> x(n);
  for (float& v : x) v = static_cast<float>(rng.normal() * size);
  return x;
}
// Root of the weighted squared error as a share of that of the values.
double error_of(const std::vector<float>& x, const std::vector<float>& y, const std::vector<float>& weights = {}) {
  double off = 0, all = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double w = weights.empty() ? 1.0 : weights[i], d = double{x[i]} - double{y[i]};
    off += w * d * d, all += w * double{x[i]} * double{x[i]};
  }
  return std::sqrt(off / all);
}

// What the simplest rule gives (the largest number at the end of the codes) for Q4_0: 0.0920 on these numbers; the
// bounds of the others are a tenth above what was found.
TEST(QuantizeWeights, TheErrorOfNormalNumbersIsThatOfTheTypesBits) {
  const auto x = random_weights(256 * 64);
  const auto bound = [](DType type) {
    switch (type) {
      case DType::kF32: return 0.0;
      case DType::kF16: return 2.2e-4;
      case DType::kBF16: return 1.8e-3;
      case DType::kQ8_0: return 0.006;
      case DType::kQ6_K: return 0.018;
      case DType::kQ5_0:
      case DType::kQ5_1:
      case DType::kQ5_K: return 0.042;
      case DType::kQ4_0:
      case DType::kQ4_1:
      case DType::kQ4_K:
      case DType::kIQ4_NL:
      case DType::kIQ4_XS: return 0.086;
      case DType::kMXFP4: return 0.125;
      case DType::kQ3_K: return 0.17;
      case DType::kQ2_K: return 0.31;
      default: return 0.85;  // TQ2_0, which is for ternary numbers
    }
  };
  for (const DType type : types()) {
    const double error = error_of(x, there_and_back(type, x));
    RecordProperty(std::string(dtype_info(type).name), std::to_string(error));
    EXPECT_LE(error, bound(type)) << dtype_info(type).name;
    EXPECT_GE(error, bound(type) / 2) << dtype_info(type).name << ": the bound says nothing";
  }
}

TEST(QuantizeWeights, IsNotWorseThanTheLargestNumberAtTheEndOfTheCodes) {
  const auto x = random_weights(32 * 256);
  std::vector<float> simple(x.size());
  for (size_t at = 0; at < x.size(); at += 32) {
    float most = 0;
    for (size_t i = at; i < at + 32; ++i) most = std::abs(x[i]) > std::abs(most) ? x[i] : most;
    const float d = most / -8;
    for (size_t i = at; i < at + 32; ++i) simple[i] = d * std::min(7.0f, std::floor(x[i] / d + 0.5f));
  }
  const std::vector<float> alike(x.size(), 1.0f);
  EXPECT_LT(error_of(x, there_and_back(DType::kQ4_0, x, alike.data())), 0.95 * error_of(x, simple));
  EXPECT_LT(error_of(x, there_and_back(DType::kQ4_0, x)), 0.97 * error_of(x, simple));
}

TEST(QuantizeWeights, LargeNumbersCountMoreWhereNoImportanceSaysIt) {
  const auto x = random_weights(256 * 64);
  const std::vector<float> alike(x.size(), 1.0f);
  std::vector<float> large(x.size());  // the largest of each 32
  for (size_t at = 0; at < x.size(); at += 32) {
    size_t most = at;
    for (size_t i = at; i < at + 32; ++i) most = std::abs(x[i]) > std::abs(x[most]) ? i : most;
    large[most] = 1;
  }
  for (const DType type : {DType::kQ4_0, DType::kQ5_0, DType::kQ8_0})
    EXPECT_LT(error_of(x, there_and_back(type, x), large),
              0.9 * error_of(x, there_and_back(type, x, alike.data()), large))
        << dtype_info(type).name;
}

TEST(QuantizeWeights, WhatATypeHoldsComesBack) {
  std::vector<float> x(512);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(static_cast<int>(i * 7 % 16) - 8) * 0.25f;
  for (const DType type : {DType::kF32, DType::kF16, DType::kBF16, DType::kQ4_0, DType::kQ4_1, DType::kQ5_0,
                           DType::kQ5_1, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K})
    EXPECT_LT(error_of(x, there_and_back(type, x)), type == DType::kQ4_K || type == DType::kQ5_K ? 1e-3 : 1e-6)
        << dtype_info(type).name;
  constexpr float kE2M1[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
  for (size_t i = 0; i < x.size(); ++i) x[i] = (i % 2 ? -1.0f : 1.0f) * kE2M1[i % 8] / 64;
  EXPECT_EQ(there_and_back(DType::kMXFP4, x), x);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(static_cast<int>(i % 3) - 1) * 0.125f;
  EXPECT_EQ(there_and_back(DType::kTQ2_0, x), x);
}

TEST(QuantizeWeights, ZerosConstantsAndExtremesStayFinite) {
  const auto normal = random_weights(256);
  for (const DType type : types()) {
    for (const float size : {0.0f, 1e-38f, 1e-20f, 1e-8f, 1.0f, 65504.0f, 1e30f, 3e38f}) {
      std::vector<float> x(256, size);
      std::vector<float> y = there_and_back(type, x);
      for (const float v : y) ASSERT_TRUE(std::isfinite(v) && (size > 0 || v == 0)) << dtype_info(type).name << size;
      if (size == 1.0f) {
        EXPECT_LT(error_of(x, y), 0.02) << dtype_info(type).name;
      }
      for (size_t i = 0; i < x.size(); ++i) x[i] = std::clamp(normal[i], -1.0f, 1.0f) * size;
      y = there_and_back(type, x);
      for (const float v : y) ASSERT_TRUE(std::isfinite(v)) << dtype_info(type).name << " " << size;
    }
  }
}

TEST(QuantizeWeights, ColumnsThatMatterAreNearer) {
  const auto x = random_weights(256 * 16);
  std::vector<float> importance(x.size());
  Rng rng(5);
  for (float& w : importance) w = rng.uniform() < 0.2 ? 50.0f : 0.05f;
  for (const DType type : types()) {
    if (dtype_info(type).block_elements == 1 || type == DType::kQ8_0 || type == DType::kTQ2_0 || type == DType::kMXFP4)
      continue;
    const double with = error_of(x, there_and_back(type, x, importance.data()), importance);
    const double without = error_of(x, there_and_back(type, x), importance);
    EXPECT_LT(with, 0.97 * without) << dtype_info(type).name;
  }
}

TEST(QuantizeWeights, GivesTheSameBytesOnEveryInstructionSet) {
  const auto x = random_weights(256 * 8);
  std::vector<float> importance(x.size());
  Rng rng(5);
  for (float& w : importance) w = static_cast<float>(rng.uniform());
  const Isa before = active_isa();
  for (const DType type : types()) {
    set_isa(Isa::kPortable);
    const auto want = made(type, x, importance.data());
    for (const Isa isa : {Isa::kAvx2, Isa::kAvx512}) {
      if (!machine_has(isa)) continue;
      set_isa(isa);
      EXPECT_EQ(made(type, x, importance.data()), want) << dtype_info(type).name << " " << name_of(isa);
    }
  }
  set_isa(before);
}

}  // namespace quantize_weights_test
}  // namespace fovea::kernels
