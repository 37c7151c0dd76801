#include "fovea/formats/gguf_file_writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>

#include "fovea/base/check.h"
#include "fovea/base/file.h"

namespace fovea::formats {
namespace gguf_file_writer_test {

using kernels::DType;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class GgufFile : public ::testing::Test {
 protected:
  void SetUp() override {
    path_ = std::filesystem::temp_directory_path() /
            (std::string("fovea_") + ::testing::UnitTest::GetInstance()->current_test_info()->name() + ".gguf");
    std::filesystem::remove(path_);
  }
  void TearDown() override { std::filesystem::remove(path_); }
  Result<GgufFileWriter> writer(const GgufKeys& keys, const std::vector<GgufTensor>& tensors) {
    return GgufFileWriter::create(FileWriter::create(path_).value(), keys, tensors);
  }
  std::string path_;
};

TEST_F(GgufFile, IsReadAsItWasWritten) {
  GgufKeys keys;
  keys.put("general.architecture", "llama");
  keys.put("a.u32", uint32_t{7});
  keys.put("a.i32", int32_t{-7});
  keys.put("a.f32", 0.25f);
  keys.put("a.bool", true);
  keys.put("a.texts", std::vector<std::string>{"one", "", "three"});
  keys.put("a.numbers", std::vector<int32_t>{3, -4});
  keys.put("a.u32", uint32_t{8});  // in place of the first
  keys.put("a.gone", uint32_t{1});
  keys.erase("a.gone");
  auto file = writer(keys, {{"x", DType::kF32, {3}}, {"none", DType::kF32, {0}}, {"q", DType::kQ8_0, {32, 2}}});
  ASSERT_TRUE(file) << file.error().message;
  const float x[] = {1, 2, 3};
  ASSERT_TRUE(file->write(std::as_bytes(std::span(x).first(1))));
  ASSERT_TRUE(file->write(std::as_bytes(std::span(x).subspan(1))));
  const std::vector<std::byte> q(68, std::byte{5});
  ASSERT_TRUE(file->write(q));
  EXPECT_FALSE(std::filesystem::exists(path_)) << "there before it is complete";
  const uint64_t bytes = file->bytes();
  ASSERT_TRUE(file->commit());
  EXPECT_EQ(std::filesystem::file_size(path_), bytes);

  const auto read = Gguf::open(path_, {.strict = true});
  ASSERT_TRUE(read) << read.error().message;
  const Gguf& gguf = *read.value();
  EXPECT_EQ(gguf.get_u64("a.u32").value(), 8u);
  EXPECT_EQ(gguf.get_i64("a.i32").value(), -7);
  EXPECT_EQ(gguf.get_f64("a.f32").value(), 0.25);
  EXPECT_TRUE(gguf.get_bool("a.bool").value());
  EXPECT_THAT(gguf.get_strings("a.texts").value(), ElementsAre("one", "", "three"));
  EXPECT_THAT(gguf.get_i64s("a.numbers").value(), ElementsAre(3, -4));
  EXPECT_FALSE(gguf.has("a.gone"));
  ASSERT_EQ(gguf.tensors().size(), 3u);
  EXPECT_EQ(std::memcmp(gguf.find_tensor("x")->data.data(), x, sizeof x), 0);
  EXPECT_EQ(gguf.find_tensor("q")->data[67], std::byte{5});

  GgufKeys copy;  // keys that were read are written as they were
  for (const Gguf::RawKey& key : gguf.raw_keys()) copy.put(key);
  EXPECT_EQ(copy.bytes(), keys.bytes());
}

TEST_F(GgufFile, RefusesWhatNoReaderTakes) {
  const auto refusal = [&](const std::vector<GgufTensor>& tensors) {
    const auto file = writer({}, tensors);
    return file ? std::string() : file.error().message;
  };
  EXPECT_THAT(refusal({{"x", DType::kF32, {1}}, {"x", DType::kF32, {1}}}), HasSubstr("twice"));
  EXPECT_THAT(refusal({{std::string(64, 'n'), DType::kF32, {1}}}), HasSubstr("63 bytes"));
  EXPECT_THAT(refusal({{"x", DType::kF32, {}}}), HasSubstr("0 dimensions"));
  EXPECT_THAT(refusal({{"x", DType::kQ4_K, {128}}}), HasSubstr("256"));
  EXPECT_THAT(refusal({{"x", DType::kF8_E4M3, {32}}}), HasSubstr("F8_E4M3"));
  EXPECT_THAT(refusal({{"x", DType::kF32, {int64_t{1} << 40, int64_t{1} << 40}}}), HasSubstr("dimension"));
  EXPECT_FALSE(std::filesystem::exists(path_));
}

TEST_F(GgufFile, AFileThatIsNotCommittedIsNone) {
  {
    auto file = writer({}, {{"x", DType::kF32, {1}}});
    ASSERT_TRUE(file);
    EXPECT_THROW((void)file->commit(), CheckFailed);
  }
  EXPECT_FALSE(std::filesystem::exists(path_));
}

}  // namespace gguf_file_writer_test
}  // namespace fovea::formats
