#include "fovea/formats/gguf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "fovea/base/testing/paths.h"
#include "fovea/formats/testing/gguf_writer.h"
#include "fovea/formats/weight_scan.h"

namespace fovea::formats {
namespace gguf_test {

using ::testing::HasSubstr;

// Two keys and one F32 tensor of [32, 2] that counts from 0.
std::string small_file(int64_t n_tensors = -1, uint32_t version = 3, int32_t dtype = 0) {
  GgufWriter w;
  w.version = version;
  w.n_tensors = n_tensors;
  w.key("general.architecture", "llama").key("llama.block_count", uint32_t{2}).tensor("x.weight", {32, 2}, dtype);
  w.data().clear();
  for (int i = 0; i < 64; ++i) w.data() += GgufWriter::number(static_cast<float>(i));
  return w.build();
}

Result<Gguf> parse(const std::string& file) {
  return Gguf::parse({reinterpret_cast<const std::byte*>(file.data()), file.size()}, "small.gguf");
}

TEST(Gguf, ReadsKeysAndTensors) {
  const std::string file = small_file();
  auto gguf = parse(file);
  ASSERT_TRUE(gguf.has_value()) << gguf.error().message;
  EXPECT_EQ(gguf.value().get_string("general.architecture").value(), "llama");
  EXPECT_EQ(gguf.value().get_u64("llama.block_count").value(), 2u);
  const TensorInfo* x = gguf.value().find_tensor("x.weight");
  ASSERT_NE(x, nullptr);
  EXPECT_EQ(x->dims, (std::vector<int64_t>{32, 2}));
  float last;
  std::memcpy(&last, x->data.data() + 63 * 4, 4);
  EXPECT_EQ(last, 63.0f);
}

TEST(Gguf, NamesTheKeyThatIsMissingOrOfAnotherKind) {
  const std::string file = small_file();
  auto gguf = parse(file);
  ASSERT_TRUE(gguf.has_value());
  EXPECT_THAT(gguf.value().get_u64("llama.no_such").error().message, HasSubstr("llama.no_such"));
  EXPECT_THAT(gguf.value().get_u64("general.architecture").error().message, HasSubstr("general.architecture"));
}

TEST(Gguf, RefusesEveryTruncation) {
  const std::string file = small_file();
  for (size_t n = 0; n < file.size(); ++n) {
    auto gguf = parse(file.substr(0, n));
    ASSERT_FALSE(gguf.has_value()) << n;
    EXPECT_THAT(gguf.error().message, HasSubstr("small.gguf")) << n;
  }
}

TEST(Gguf, SurvivesEveryFlippedByte) {
  const std::string file = small_file();
  for (size_t i = 0; i < file.size() - 256; ++i) {
    for (int flip : {0x01, 0x80, 0xff}) {
      std::string mutated = file;
      mutated[i] = static_cast<char>(mutated[i] ^ flip);
      auto gguf = parse(mutated);
      EXPECT_TRUE(gguf.has_value() || !gguf.error().message.empty()) << i;
    }
  }
}

TEST(Gguf, RefusesOtherFilesVersionsCountsAndTypes) {
  EXPECT_THAT(parse("version https://git-lfs.github.com/spec/v1\noid sha256:0\n").error().message, HasSubstr("LFS"));
  EXPECT_EQ(parse(small_file(-1, 99)).error().code, ErrorCode::kUnsupported);
  EXPECT_FALSE(parse(small_file(int64_t{1} << 62)).has_value());
  EXPECT_EQ(parse(small_file(-1, 3, 4)).error().code, ErrorCode::kUnsupported);
}

TEST(Gguf, ReadsEveryKindOfNumber) {
  GgufWriter w;
  w.key("u8", uint8_t{200})
      .key("i8", int8_t{-3})
      .key("u16", uint16_t{60000})
      .key("i64", int64_t{-5})
      .key("u64", ~uint64_t{0});
  w.key("f32", 1.5f)
      .key("f64", 2.5)
      .key("bool", true)
      .key("list", std::vector<int32_t>{1, -2})
      .key("words", std::vector<std::string>{"a", ""});
  const std::string file = w.build();
  const auto gguf = parse(file);
  ASSERT_TRUE(gguf.has_value()) << gguf.error().message;
  const Gguf& g = gguf.value();
  EXPECT_EQ(g.get_u64("u8").value(), 200u);
  EXPECT_EQ(g.get_i64("i8").value(), -3);
  EXPECT_THAT(g.get_u64("i8").error().message, HasSubstr("negative"));
  EXPECT_EQ(g.get_u64("u16").value(), 60000u);
  EXPECT_EQ(g.get_i64("i64").value(), -5);
  EXPECT_EQ(g.get_u64("u64").value(), ~uint64_t{0});
  EXPECT_EQ(g.get_f64("f32").value(), 1.5);
  EXPECT_EQ(g.get_f64("f64").value(), 2.5);
  EXPECT_EQ(g.get_f64("u8").value(), 200.0);
  EXPECT_TRUE(g.get_bool("bool").value());
  EXPECT_EQ(g.get_i64s("list").value(), (std::vector<int64_t>{1, -2}));
  EXPECT_EQ(g.get_strings("words").value(), (std::vector<std::string_view>{"a", ""}));
  EXPECT_FALSE(g.get_i64("f32").has_value());
  EXPECT_FALSE(g.get_strings("list").has_value());
}

TEST(WeightScan, CountsWhatIsNotFinite) {
  GgufWriter w;
  w.tensor("f32", {32}).tensor("q8", {64}, 8, 68).tensor("q4_1", {64}, 3, 40).tensor("q6_k", {256}, 14, 210);
  w.data().replace(4, 4, GgufWriter::number(uint32_t{0x7FC00000}));     // NaN
  w.data().replace(8, 4, GgufWriter::number(uint32_t{0xFF800000}));     // -Inf
  w.data().replace(128 + 34, 2, GgufWriter::number(uint16_t{0x7C00}));  // the second block's scale
  w.data().replace(128 + 2, 2, "\xff\xff");                             // codes: any byte is right
  w.data().replace(224 + 2, 2, GgufWriter::number(uint16_t{0xFE00}));   // the first block's offset
  w.data().replace(288 + 208, 2, GgufWriter::number(uint16_t{0x7C00}));
  const std::string file = w.build();
  const auto gguf = parse(file);
  ASSERT_TRUE(gguf.has_value()) << gguf.error().message;
  EXPECT_EQ(count_non_finite(*gguf.value().find_tensor("f32")), 2u);
  EXPECT_EQ(count_non_finite(*gguf.value().find_tensor("q8")), 1u);
  EXPECT_EQ(count_non_finite(*gguf.value().find_tensor("q4_1")), 1u);
  EXPECT_EQ(count_non_finite(*gguf.value().find_tensor("q6_k")), 1u);
}

// What the Python package `gguf` says of the same files.
struct Known {
  const char* file;
  size_t n_tensors;
  const char* tensor;
  std::vector<int64_t> dims;
  const char* dtype;
};
void expect_known(const std::string& path, const Known& known) {
  const auto gguf = Gguf::open(path, {.strict = true});
  ASSERT_TRUE(gguf.has_value()) << gguf.error().message;
  EXPECT_EQ(gguf.value()->tensors().size(), known.n_tensors);
  const TensorInfo* tensor = gguf.value()->find_tensor(known.tensor);
  ASSERT_NE(tensor, nullptr) << known.tensor;
  EXPECT_EQ(tensor->dims, known.dims);
  EXPECT_EQ(kernels::dtype_info(tensor->dtype).name, known.dtype);
}

TEST(Gguf, ReadsTheTinyModelsOfTheTests) {
  const std::string folder = source_dir() + "/tests/data/";
  expect_known(folder + "tiny-llama.gguf", {"", 21, "blk.0.ffn_down.weight", {128, 64}, "Q4_1"});
  expect_known(folder + "tiny-llama.gguf", {"", 21, "output.weight", {64, 300}, "F16"});
  expect_known(folder + "tiny-qwen2.gguf", {"", 26, "blk.1.attn_k.bias", {32}, "F32"});
}

TEST(Gguf, ReadsTheRealModels) {
  const char* models = std::getenv("FOVEA_MODELS");
  const char* home = std::getenv("HOME");
  const std::string folder = models ? models : std::string(home ? home : "") + "/.local/share/fovea/models";
  int n_read = 0;
  for (const Known& known : {Known{"smollm2-135m", 272, "blk.29.ffn_down.weight", {1536, 576}, "Q4_1"},
                             Known{"smollm2-135m", 272, "token_embd.weight", {576, 49152}, "Q8_0"},
                             Known{"qwen2.5-coder-0.5b", 291, "blk.0.ffn_down.weight", {4864, 896}, "Q6_K"},
                             Known{"qwen2.5-coder-0.5b", 291, "token_embd.weight", {896, 151936}, "Q5_0"}}) {
    const std::string path = folder + "/" + known.file + ".gguf";
    if (!std::filesystem::exists(path)) continue;
    expect_known(path, known);
    ++n_read;
  }
  if (n_read == 0) GTEST_SKIP() << "no real model in " << folder << "; fovea pull smollm2-135m fetches one";
}

}  // namespace gguf_test
}  // namespace fovea::formats
