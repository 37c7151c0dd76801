#include "fovea/formats/safetensors_writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "fovea/base/check.h"

namespace fovea::formats {
namespace safetensors_writer_test {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using Json = nlohmann::json;

class Safetensors : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(::testing::TempDir()) / ("safetensors-" + std::to_string(getpid()));
    fs::create_directories(folder_);
    path_ = (folder_ / "x.safetensors").string();
  }
  void TearDown() override { fs::remove_all(folder_); }
  size_t files() const {
    return static_cast<size_t>(std::distance(fs::directory_iterator(folder_), fs::directory_iterator()));
  }
  fs::path folder_;
  std::string path_;
};

TEST_F(Safetensors, HoldsTheBytesOfTheFormat) {
  auto writer = SafetensorsWriter::create(
      path_, {{"a", SafeDtype::kF32, {2, 3}}, {"empty", SafeDtype::kF32, {0, 4}}, {"b", SafeDtype::kI32, {2}}},
      {{"model", "tiny"}});
  ASSERT_TRUE(writer.has_value()) << writer.error().message;
  const std::vector<float> a = {1, 2, 3, 4, 5, 6};
  const std::vector<int32_t> b = {-1, 7};
  ASSERT_TRUE(writer->write(std::span(a).first(1)).has_value());  // in pieces of any size
  ASSERT_TRUE(writer->write(std::span(a).subspan(1)).has_value());
  ASSERT_TRUE(writer->write(std::span<const int32_t>(b)).has_value());
  EXPECT_FALSE(fs::exists(path_));
  ASSERT_TRUE(writer->commit().has_value());

  const std::string file = read_file(path_).value();
  uint64_t length = 0;
  std::memcpy(&length, file.data(), 8);
  EXPECT_EQ(length % 8, 0u);
  ASSERT_EQ(file.size(), 8 + length + 24 + 8);
  const Json header = Json::parse(file.substr(8, length));
  EXPECT_EQ(header["__metadata__"]["model"], "tiny");
  EXPECT_EQ(header["a"], Json::parse(R"({"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]})"));
  EXPECT_EQ(header["empty"]["data_offsets"], Json::parse("[24, 24]"));
  EXPECT_EQ(header["b"], Json::parse(R"({"dtype": "I32", "shape": [2], "data_offsets": [24, 32]})"));
  EXPECT_EQ(std::memcmp(file.data() + 8 + length, a.data(), 24), 0);
  EXPECT_EQ(std::memcmp(file.data() + 8 + length + 24, b.data(), 8), 0);
}

TEST_F(Safetensors, LeavesNothingBehindWithoutCommit) {
  {
    auto writer = SafetensorsWriter::create(path_, {{"a", SafeDtype::kF32, {1}}});
    ASSERT_TRUE(writer.has_value());
    EXPECT_EQ(files(), 1u);
  }
  EXPECT_EQ(files(), 0u);
}

TEST_F(Safetensors, RefusesNamesAndShapesThatTheFormatCannotHold) {
  const auto message = [&](const std::vector<SafeTensor>& tensors) {
    const auto writer = SafetensorsWriter::create(path_, tensors);
    EXPECT_FALSE(writer.has_value());
    return writer.has_value() ? "" : writer.error().message;
  };
  EXPECT_THAT(message({{"a", SafeDtype::kF32, {1}}, {"a", SafeDtype::kF32, {1}}}), HasSubstr("there is one already"));
  EXPECT_THAT(message({{"__metadata__", SafeDtype::kF32, {1}}}), HasSubstr("keeps that name"));
  EXPECT_THAT(message({{"a", SafeDtype::kF32, {-1}}}), HasSubstr("[-1]"));
  EXPECT_THAT(message({{"a", SafeDtype::kI64, {int64_t{1} << 40, int64_t{1} << 40}}}), HasSubstr("impossible shape"));
  EXPECT_THAT(message({{"\xff", SafeDtype::kF32, {1}}}), HasSubstr("UTF-8"));
  EXPECT_EQ(files(), 0u);
}

TEST_F(Safetensors, BytesThatWereNotAnnouncedAreACallersMistake) {
  auto writer = SafetensorsWriter::create(path_, {{"a", SafeDtype::kF32, {2}}});
  ASSERT_TRUE(writer.has_value());
  const std::vector<float> three(3);
  EXPECT_THROW((void)writer->write(std::span<const float>(three)), CheckFailed);
  EXPECT_THROW((void)writer->commit(), CheckFailed);
}

TEST_F(Safetensors, SaysWhereItCannotWrite) {
  const auto writer = SafetensorsWriter::create((folder_ / "no" / "x").string(), {});
  ASSERT_FALSE(writer.has_value());
  EXPECT_EQ(writer.error().code, ErrorCode::kNotFound);
}

}  // namespace safetensors_writer_test
}  // namespace fovea::formats
