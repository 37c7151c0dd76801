#include "fovea/formats/gguf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

namespace fovea::formats {
namespace {

using ::testing::HasSubstr;

// A file as the format describes it, built by hand: two keys, one F32 tensor of [32, 2].
class Writer {
 public:
  template <typename T>
  Writer& put(T value) {
    const char* p = reinterpret_cast<const char*>(&value);
    bytes_.append(p, sizeof(T));
    return *this;
  }
  Writer& text(const std::string& s) {
    put<uint64_t>(s.size());
    bytes_ += s;
    return *this;
  }
  Writer& raw(const std::string& s) {
    bytes_ += s;
    return *this;
  }
  Writer& pad() {
    bytes_.resize((bytes_.size() + 31) / 32 * 32);
    return *this;
  }
  std::string bytes_;
};

std::string small_file(uint64_t n_tensors = 1, uint32_t version = 3, uint32_t dtype = 0) {
  Writer w;
  w.raw("GGUF").put<uint32_t>(version).put<uint64_t>(n_tensors).put<uint64_t>(2);
  w.text("general.architecture").put<uint32_t>(8).text("llama");
  w.text("llama.block_count").put<uint32_t>(4).put<uint32_t>(2);
  w.text("x.weight").put<uint32_t>(2).put<uint64_t>(32).put<uint64_t>(2).put<uint32_t>(dtype).put<uint64_t>(0);
  w.pad();
  for (int i = 0; i < 64; ++i) w.put<float>(static_cast<float>(i));
  return w.bytes_;
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
  EXPECT_EQ(parse(small_file(1, 99)).error().code, ErrorCode::kUnsupported);
  EXPECT_FALSE(parse(small_file(uint64_t{1} << 63)).has_value());
  EXPECT_EQ(parse(small_file(1, 3, 4)).error().code, ErrorCode::kUnsupported);
}

}  // namespace
}  // namespace fovea::formats
