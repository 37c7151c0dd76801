#include "fovea/formats/hf_weights.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <list>
#include <nlohmann/json.hpp>

#include "fovea/formats/weight_scan.h"
#include "fovea/kernels/matmul.h"

namespace fovea::formats {
namespace hf_weights_test {

using Json = nlohmann::ordered_json;
using kernels::DType;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class Weights : public ::testing::Test {
 protected:
  // dims[0] varies fastest.
  void add(const std::string& name, DType dtype, std::vector<int64_t> dims, std::vector<uint8_t> bytes) {
    std::vector<std::byte>& kept = bytes_.emplace_back(bytes.size());
    if (!bytes.empty()) std::memcpy(kept.data(), bytes.data(), bytes.size());
    tensors_.push_back({name, dtype, std::move(dims), 0, kept.size(), kept});
  }
  void add(const std::string& name, std::vector<int64_t> dims, const std::vector<float>& values) {
    std::vector<uint8_t> bytes(values.size() * sizeof(float));
    std::memcpy(bytes.data(), values.data(), bytes.size());
    add(name, DType::kF32, std::move(dims), std::move(bytes));
  }
  HfWeights pair(const Json& quantization = nullptr) {
    auto out = HfWeights::pair(tensors_, {{"quantization_config", quantization}}, "\"m\"");
    EXPECT_TRUE(out.has_value()) << out.error().message;
    return std::move(out).value();
  }
  void refuses(ErrorCode code, const ::testing::Matcher<std::string>& message, const Json& quantization = nullptr) {
    const auto out = HfWeights::pair(tensors_, {{"quantization_config", quantization}}, "\"m\"");
    ASSERT_FALSE(out.has_value());
    EXPECT_EQ(out.error().code, code);
    EXPECT_THAT(out.error().message, message);
  }
  std::vector<float> made(const HfWeights& weights, DType want) const {
    const auto out = weights.make(tensors_.at(0)).value();
    EXPECT_TRUE(out.has_value());
    EXPECT_EQ(out->dtype, want);
    std::vector<float> values(out->bytes.size() / static_cast<size_t>(kernels::dtype_info(want).block_bytes));
    kernels::dequantize(want, out->bytes.data(), static_cast<int64_t>(values.size()), values.data());
    return values;
  }

  std::list<std::vector<std::byte>> bytes_;
  std::vector<TensorInfo> tensors_;
};

TEST_F(Weights, EightBitFloatsAsTheirPaperHasThem) {
  add("a", DType::kF8_E4M3, {7}, {0x38, 0x7E, 0x01, 0x80, 0x08, 0xC4, 0x7F});
  std::vector<float> v = made(pair(), DType::kBF16);
  EXPECT_TRUE(std::isnan(v.back()));
  EXPECT_TRUE(std::signbit(v[3]));
  v.pop_back();
  EXPECT_THAT(v, ElementsAre(1.0f, 448.0f, 0x1p-9f, 0.0f, 0x1p-6f, -3.0f));
  tensors_.clear();
  add("a", DType::kF8_E5M2, {6}, {0x3C, 0x7B, 0x01, 0x04, 0xFC, 0x7D});
  v = made(pair(), DType::kBF16);
  EXPECT_TRUE(std::isnan(v.back()));
  v.pop_back();
  EXPECT_THAT(v, ElementsAre(1.0f, 57344.0f, 0x1p-16f, 0x1p-14f, -std::numeric_limits<float>::infinity()));
}

TEST_F(Weights, ScalesOfATensorOfRowsAndOfBlocks) {
  const std::vector<uint8_t> ones(6, 0x38);
  add("x.weight", DType::kF8_E4M3, {3, 2}, ones);
  add("x.weight_scale", {1}, {0.3f});
  add("x.input_scale", {1}, {7});
  EXPECT_THAT(made(pair(), DType::kF32), ElementsAre(0.3f, 0.3f, 0.3f, 0.3f, 0.3f, 0.3f));
  EXPECT_EQ(tensors_.size(), 1u);

  tensors_.clear();
  add("x.weight", DType::kF8_E4M3, {3, 2}, ones);
  add("x.weight_scale", {1, 2}, {0.5f, 4});
  EXPECT_THAT(made(pair(), DType::kBF16), ElementsAre(0.5f, 0.5f, 0.5f, 4, 4, 4));

  tensors_.clear();
  add("x.weight", DType::kF8_E4M3, {3, 2}, ones);
  add("x.weight_scale_inv", {2, 2}, {1, 2, 3, 4});
  EXPECT_THAT(made(pair({{"quant_method", "fp8"}, {"weight_block_size", {1, 2}}}), DType::kF32),
              ElementsAre(1, 1, 2, 3, 3, 4));
}

TEST_F(Weights, ScalesThatDoNotFitAreRefused) {
  const Json fp8 = {{"quant_method", "fp8"}, {"weight_block_size", {2, 2}}};
  add("x.weight", DType::kF8_E4M3, {3, 3}, std::vector<uint8_t>(9));
  add("x.weight_scale_inv", {2, 1}, {1, 2});
  refuses(ErrorCode::kData, AllOf(HasSubstr("x.weight_scale_inv"), HasSubstr("no scales of x.weight [3, 3]")), fp8);
  refuses(ErrorCode::kData, HasSubstr("no scales"));
  tensors_[1].dtype = DType::kI32, tensors_[1].dims = {1};
  refuses(ErrorCode::kData, HasSubstr("I32"));
  tensors_.clear();
  add("e_blocks", DType::kU8, {16, 1, 2}, std::vector<uint8_t>(32));
  add("e_scales", DType::kU8, {2, 1}, {0, 0});
  refuses(ErrorCode::kData, HasSubstr("no scales of e_blocks"));
}

TEST_F(Weights, OtherWaysToQuantiseAreRefusedByName) {
  for (const char* way : {"gptq", "awq", "bitsandbytes"})
    refuses(ErrorCode::kUnsupported, HasSubstr(way), {{"quant_method", way}});
  refuses(ErrorCode::kUnsupported, HasSubstr("without a name"), Json::object());
  refuses(ErrorCode::kData, HasSubstr("no object"), 3);
  for (const Json& size : {Json(2), Json{0, 2}, Json{1, 2, 3}, Json{-1, 1}, Json{1.5, 1}})
    refuses(ErrorCode::kData, HasSubstr("weight_block_size"), {{"quant_method", "fp8"}, {"weight_block_size", size}});
}

TEST_F(Weights, Mxfp4ComesInGgufsOrder) {
  std::vector<uint8_t> codes;
  for (int i = 0; i < 16; ++i)
    codes.push_back(static_cast<uint8_t>((2 * i % 16) | (2 * i + 1) % 16 << 4));  // 0, 1, 2 ...
  add("e_blocks", DType::kU8, {16, 1, 1}, codes);
  add("e_scales", DType::kU8, {1, 1}, {200});
  const HfWeights weights = pair();
  ASSERT_EQ(tensors_.size(), 1u);
  EXPECT_EQ(tensors_[0].dtype, DType::kMXFP4);
  EXPECT_THAT(tensors_[0].dims, ElementsAre(32, 1));
  EXPECT_EQ(tensors_[0].bytes, 17u);
  const auto out = weights.make(tensors_[0]).value().value();
  ASSERT_EQ(out.bytes.size(), 17u);
  EXPECT_EQ(out.bytes[0], std::byte{200});
  for (int i = 0; i < 16; ++i)  // element i, and i + 16, which has the same code
    EXPECT_EQ(out.bytes[static_cast<size_t>(1 + i)], static_cast<std::byte>(i | i << 4));
}

TEST_F(Weights, WhatIsNotFiniteIsCountedWithoutMakingIt) {
  add("x.weight", DType::kF8_E4M3, {3, 2}, {0x7F, 0x38, 0xFF, 0, 0, 0});
  add("x.weight_scale", {1, 2}, {1, INFINITY});
  add("e_blocks", DType::kU8, {16, 2, 1}, std::vector<uint8_t>(32));
  add("e_scales", DType::kU8, {2, 1}, {255, 1});
  const HfWeights weights = pair();
  EXPECT_EQ(count_non_finite(tensors_[0]), 2u);
  EXPECT_EQ(weights.count_bad_scales(tensors_[0]), 1u);
  EXPECT_EQ(weights.count_bad_scales(tensors_[1]), 1u);
}

TEST_F(Weights, DoublesAreRounded) {
  const double values[] = {0.1, -2};
  std::vector<uint8_t> bytes(16);
  std::memcpy(bytes.data(), values, 16);
  add("d", DType::kF64, {2}, bytes);
  EXPECT_THAT(made(pair(), DType::kF32), ElementsAre(0.1f, -2.0f));
}

}  // namespace hf_weights_test
}  // namespace fovea::formats
