#include "fovea/formats/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "fovea/formats/testing/safetensors_bytes.h"

namespace fovea::formats {
namespace safetensors_test {

using kernels::DType;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

Result<Safetensors> parse(const std::string& file) {
  return parse_safetensors({reinterpret_cast<const std::byte*>(file.data()), file.size()}, "m.safetensors");
}
void refuses(const std::string& file, ErrorCode code, const std::string& message) {
  const auto parsed = parse(file);
  ASSERT_FALSE(parsed.has_value()) << message;
  EXPECT_EQ(parsed.error().code, code) << parsed.error().message;
  EXPECT_THAT(parsed.error().message, ::testing::StartsWith("\"m.safetensors\""));
  EXPECT_THAT(parsed.error().message, HasSubstr(message));
}
std::string one(const std::string& entry, size_t bytes) {
  return safetensors_bytes("{\"x\":" + entry + "}", std::string(bytes, '\1'));
}

TEST(SafetensorsReader, NamesTypesShapesAndData) {
  const std::string bytes = safetensors_bytes(  // the tensors are views of it
      R"({"__metadata__":{"format":"pt"},"b":{"dtype":"BF16","shape":[2,3],"data_offsets":[4,16]},)"
      R"("a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},"e":{"dtype":"U8","shape":[0,7],"data_offsets":[16,16]}}  )",
      std::string(4, 'a') + std::string(12, 'b'));
  const auto parsed = parse(bytes);
  ASSERT_TRUE(parsed.has_value()) << parsed.error().message;
  const auto& t = parsed->tensors;
  ASSERT_EQ(t.size(), 3u);
  EXPECT_EQ(t[0].name, "a");
  EXPECT_THAT(t[0].dims, ElementsAre(1));
  EXPECT_EQ(t[1].dtype, DType::kBF16);
  EXPECT_THAT(t[1].dims, ElementsAre(3, 2));  // the fastest first
  EXPECT_EQ(t[1].offset, 4u);
  EXPECT_EQ(std::memcmp(t[1].data.data(), "bbbbbbbbbbbb", 12), 0);
  EXPECT_THAT(t[2].dims, ElementsAre(7, 0));
  EXPECT_EQ(parsed->metadata.at("format"), "pt");
}

TEST(SafetensorsReader, EveryElementTypeHasItsWidth) {
  for (const auto& [name, bytes] : {std::pair{"F64", 8},
                                    {"F32", 4},
                                    {"F16", 2},
                                    {"BF16", 2},
                                    {"F8_E4M3", 1},
                                    {"F8_E5M2", 1},
                                    {"I64", 8},
                                    {"I32", 4},
                                    {"I16", 2},
                                    {"I8", 1},
                                    {"U64", 8},
                                    {"U32", 4},
                                    {"U16", 2},
                                    {"U8", 1},
                                    {"BOOL", 1}}) {
    const std::string entry = fmt::format(R"({{"dtype":"{}","shape":[3],"data_offsets":[0,{}]}})", name, 3 * bytes);
    const auto parsed = parse(one(entry, static_cast<size_t>(3 * bytes)));
    ASSERT_TRUE(parsed.has_value()) << parsed.error().message;
    EXPECT_EQ(kernels::dtype_info(parsed->tensors[0].dtype).name, name);
    EXPECT_EQ(parsed->tensors[0].bytes, static_cast<uint64_t>(3 * bytes));
  }
}

TEST(SafetensorsReader, RefusesWhatIsNoHeader) {
  refuses("", ErrorCode::kData, "offset 0");
  refuses("1234567", ErrorCode::kData, "offset 0");
  refuses(safetensors_bytes("", ""), ErrorCode::kData, "does not begin");
  refuses(std::string("\xFF\0\0\0\0\0\0\0{}", 10), ErrorCode::kData, "255 bytes, but the file has only 2");
  refuses(std::string(8, '\xFF') + "{}", ErrorCode::kData, "but the file has only 2");
  refuses(safetensors_bytes("[]", ""), ErrorCode::kData, "does not begin");
  refuses(safetensors_bytes(std::string("{}\0\0", 4), ""), ErrorCode::kData, "not JSON");
  refuses(safetensors_bytes("{\"\xFF\":1}", ""), ErrorCode::kData, "not JSON");
  refuses(safetensors_bytes("{\"x\":" + std::string(100'000, '[') + "}", ""), ErrorCode::kLimit, "nested deeper");
  refuses(safetensors_bytes(R"({"x":1,"x":1})", ""), ErrorCode::kData, "twice");
  refuses(safetensors_bytes(R"({"__metadata__":{"a":1}})", ""), ErrorCode::kData, "no string");
  refuses(safetensors_bytes(R"({"__metadata__":[]})", ""), ErrorCode::kData, "no object");
  refuses("version https://git-lfs.github.com/spec/v1\noid", ErrorCode::kData, "Git LFS pointer");
  refuses("<!DOCTYPE html><html>", ErrorCode::kData, "HTML");
}

TEST(SafetensorsReader, RefusesAHeaderOverTheCapBeforeItIsRead) {
  std::string file(Safetensors::kMaxHeaderBytes + 9, ' ');
  const uint64_t n = Safetensors::kMaxHeaderBytes + 1;
  std::memcpy(file.data(), &n, sizeof(n));
  refuses(file, ErrorCode::kLimit, "100000001");
}

TEST(SafetensorsReader, RefusesDataThatDoNotFit) {
  const auto entry = [](const char* shape, const char* offsets) {
    return fmt::format(R"({{"dtype":"F32","shape":{},"data_offsets":{}}})", shape, offsets);
  };
  refuses(one(entry("[1]", "[4,0]"), 4), ErrorCode::kData, "a begin and an end");
  refuses(one(entry("[1]", "[0,4,8]"), 8), ErrorCode::kLimit, "3 numbers");
  refuses(one(entry("[1]", "[0]"), 4), ErrorCode::kData, "a begin and an end");
  refuses(one(entry("[2]", "[0,8]"), 4), ErrorCode::kData, "4 bytes short");
  refuses(one(entry("[2]", "[0,4]"), 4), ErrorCode::kData, "needs 8");
  refuses(one(entry("[1]", "[0,4]"), 5), ErrorCode::kData, "1 bytes follow");
  refuses(one(entry("[1]", "[4,8]"), 8), ErrorCode::kData, "begins at byte 4");
  refuses(one(entry("[4294967296,4294967296,4294967296]", "[0,4]"), 4), ErrorCode::kData, "overflows");
  refuses(one(entry("[9223372036854775808]", "[0,4]"), 4), ErrorCode::kData, "overflows");
  refuses(one(entry("[-1]", "[0,4]"), 4), ErrorCode::kData, "whole numbers");
  refuses(one(entry("[1.0]", "[0,4]"), 4), ErrorCode::kData, "whole numbers");
  refuses(one(entry("[1e309]", "[0,4]"), 4), ErrorCode::kData, "too large");
  refuses(one(entry("[1,1,1,1,1,1,1,1,1]", "[0,4]"), 4), ErrorCode::kLimit, "9 numbers");
  const std::string overlap = R"({"x":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
                              R"("y":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}})";
  refuses(safetensors_bytes(overlap, "123456"), ErrorCode::kData, "begins at byte 2");
}

TEST(SafetensorsReader, RefusesAnEntryOfAnotherForm) {
  refuses(one("1", 0), ErrorCode::kData, "no object");
  refuses(one(R"({"shape":[1],"data_offsets":[0,4]})", 4), ErrorCode::kData, "no dtype");
  refuses(one(R"({"dtype":"F4","shape":[1],"data_offsets":[0,4]})", 4), ErrorCode::kUnsupported, "\"F4\"");
  refuses(one(R"({"dtype":"F32","data_offsets":[0,4]})", 4), ErrorCode::kData, "no list shape");
  refuses(one(R"({"dtype":"F32","shape":[1],"data_offsets":[0,4],"code":1})", 4), ErrorCode::kData, "code");
  refuses(safetensors_bytes(R"({"a\u001b[1m":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", "1"), ErrorCode::kData,
          "control characters");
}

}  // namespace safetensors_test
}  // namespace fovea::formats
