// Bad GGUF files, one row of the catalogue of bad inputs after the other (G1-G25 as far as the
// reader decides; model_check_test.cc has the rest).
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "fovea/base/file.h"
#include "fovea/formats/gguf.h"
#include "fovea/formats/testing/gguf_writer.h"

namespace fovea::formats {
namespace gguf_rows_test {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr uint64_t kHuge = uint64_t{1} << 63;

Result<Gguf> parse(const std::string& file, bool strict = false) {
  return Gguf::parse({reinterpret_cast<const std::byte*>(file.data()), file.size()}, "x.gguf", {.strict = strict});
}

// The error of a file that must be refused, after the checks that hold for all of them.
Error refused(const std::string& file, ErrorCode code, bool strict = false) {
  const auto gguf = parse(file, strict);
  if (gguf) {
    ADD_FAILURE() << "accepted";
    return {};
  }
  const Error& error = gguf.error();
  EXPECT_EQ(name_of(error.code), std::string(name_of(code))) << error.message;
  EXPECT_THAT(error.message, HasSubstr("x.gguf"));
  EXPECT_THAT(error.message, Not(HasSubstr("\n")));
  EXPECT_THAT(error.message, Not(HasSubstr("\x1b")));
  return error;
}

GgufWriter small() {
  GgufWriter w;
  w.key("general.architecture", "llama").tensor("x.weight", {32, 2});
  return w;
}

class Folder {
 public:
  Folder() {
    path_ = fs::path(::testing::TempDir()) / "gguf-rows-XXXXXX";
    std::string name = path_.string();
    if (!mkdtemp(name.data())) throw std::runtime_error("mkdtemp");
    path_ = name;
  }
  ~Folder() { fs::remove_all(path_); }
  std::string write(const std::string& name, const std::string& bytes) const {
    const std::string path = (path_ / name).string();
    EXPECT_TRUE(write_file_atomic(path, bytes).has_value());
    return path;
  }
  std::string path(const std::string& name) const { return (path_ / name).string(); }

 private:
  fs::path path_;
};

TEST(GgufRows, G1_EmptyAndTinyFilesAreNotModels) {
  EXPECT_THAT(refused("", ErrorCode::kData).message, AllOf(HasSubstr("not a model"), HasSubstr("empty")));
  EXPECT_THAT(refused("GGU", ErrorCode::kData).message, HasSubstr("not a model"));
  EXPECT_THAT(refused("GGUF", ErrorCode::kData).message, HasSubstr("version"));
}

TEST(GgufRows, G1_WhatIsNoRegularFileIsRefusedWithoutBlocking) {
  const Folder folder;
  const std::string fifo = folder.path("pipe.gguf");
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  for (const std::string& path : {folder.path("."), fifo, std::string("/dev/zero")}) {
    const auto gguf = Gguf::open(path);
    ASSERT_FALSE(gguf.has_value()) << path;
    EXPECT_THAT(gguf.error().message, HasSubstr("not a regular file"));
  }
}

TEST(GgufRows, G2_OtherFilesAreNamedForWhatTheyAre) {
  EXPECT_THAT(refused(std::string("PK\x03\x04", 4) + std::string(60, 'x'), ErrorCode::kData).message, HasSubstr("zip"));
  EXPECT_THAT(refused("\x80\x02}q\x01" + std::string(60, 'x'), ErrorCode::kData).message, HasSubstr("pickle"));
  EXPECT_THAT(refused("<!DOCTYPE html><html>", ErrorCode::kData).message, HasSubstr("HTML"));
  EXPECT_THAT(refused("version https://git-lfs.github.com/spec/v1\noid", ErrorCode::kData).message,
              HasSubstr("Git LFS pointer"));
  EXPECT_THAT(refused("FUGG" + std::string(60, '\0'), ErrorCode::kData).message, HasSubstr("big-endian"));
  EXPECT_THAT(refused(GgufWriter::number<uint64_t>(16) + "{\"a\":{}}        ", ErrorCode::kData).message,
              HasSubstr("safetensors"));
}

TEST(GgufRows, G3_OtherVersionsAreNamed) {
  for (const uint32_t version : {0u, 1u, 4u, 0xFFFFFFFFu}) {
    GgufWriter w = small();
    w.version = version;
    EXPECT_THAT(refused(w.build(), ErrorCode::kUnsupported).message, HasSubstr(std::to_string(version)));
  }
  GgufWriter w = small();
  w.version = 0x03000000;
  EXPECT_THAT(refused(w.build(), ErrorCode::kUnsupported).message, HasSubstr("big-endian"));
}

TEST(GgufRows, G4_CountsThatCannotFitAreRefusedFirst) {
  for (const uint64_t n : {~uint64_t{0}, kHuge, uint64_t{1000}}) {
    std::string file = small().build();
    file.replace(8, 8, GgufWriter::number(n));
    EXPECT_THAT(refused(file, ErrorCode::kData).message, HasSubstr("tensor count"));
    file = small().build();
    file.replace(16, 8, GgufWriter::number(n));
    EXPECT_THAT(refused(file, ErrorCode::kData).message, HasSubstr("key count"));
  }
}

TEST(GgufRows, G5_KeysThatAreEmptyEndlessOrUnprintable) {
  for (const uint64_t n : {~uint64_t{0}, uint64_t{0}, uint64_t{65'536}}) {
    GgufWriter w;
    w.raw_entry(GgufWriter::number(n) + std::string(70'000, 'k'));
    EXPECT_THAT(refused(w.build(), ErrorCode::kData).message, HasSubstr(std::to_string(n)));
  }
  for (const std::string& key :
       {std::string("a\0b", 3), std::string("\xC3\xA9"), std::string("a\x1b[2Jb"), std::string("a\nb")}) {
    GgufWriter w;
    w.key(key, uint32_t{1});
    EXPECT_THAT(refused(w.build(), ErrorCode::kData).message, HasSubstr("ASCII"));
  }
}

TEST(GgufRows, G6_DuplicatesAreNamedWithBothPlaces) {
  GgufWriter keys = small();
  keys.key("a.b", uint32_t{1}).key("a.b", uint32_t{1});
  EXPECT_THAT(refused(keys.build(), ErrorCode::kData).message, AllOf(HasSubstr("a.b"), HasSubstr("index 1 and 2")));
  GgufWriter tensors = small();
  tensors.tensor("x.weight", {32});
  EXPECT_THAT(refused(tensors.build(), ErrorCode::kData).message,
              AllOf(HasSubstr("x.weight"), HasSubstr("index 0 and 1")));
}

TEST(GgufRows, G7_UnknownValueTypesAndArraysOfArrays) {
  for (const uint32_t type : {13u, 255u, 0xFFFFFFFFu}) {
    GgufWriter w;
    w.raw_key("k", type, "12345678");
    EXPECT_THAT(refused(w.build(), ErrorCode::kUnsupported).message, HasSubstr(std::to_string(type)));
  }
  GgufWriter w;
  w.raw_key("k", 9,
            GgufWriter::number<uint32_t>(9) + GgufWriter::number<uint64_t>(1) + GgufWriter::number<uint32_t>(4) +
                GgufWriter::number<uint64_t>(0));
  EXPECT_THAT(refused(w.build(), ErrorCode::kUnsupported).message, HasSubstr("array"));
}

TEST(GgufRows, G8_LengthsAreComparedWithWhatIsLeft) {
  for (const uint64_t n : {~uint64_t{0}, kHuge, uint64_t{1} << 31}) {
    GgufWriter text;
    text.raw_key("k", 8, GgufWriter::number(n));
    EXPECT_THAT(refused(text.build(), ErrorCode::kData).message, HasSubstr("left"));
    for (const uint32_t element : {0u, 8u, 12u}) {  // u8, string, f64: the product would wrap
      GgufWriter array;
      array.raw_key("k", 9, GgufWriter::number(element) + GgufWriter::number(n) + std::string(64, '\0'));
      EXPECT_THAT(refused(array.build(), ErrorCode::kData).message, HasSubstr("left"));
    }
  }
}

TEST(GgufRows, G9_AHugeArrayInASparseFileMeetsTheCap) {
  const Folder folder;
  GgufWriter w;
  w.raw_key("k", 9, GgufWriter::number<uint32_t>(10) + GgufWriter::number<uint64_t>(1'000'000'000));
  const std::string path = folder.write("sparse.gguf", w.build());
  if (truncate(path.c_str(), off_t{9'000'000'000}) != 0) GTEST_SKIP() << "no sparse files of 9 GB here";
  const auto gguf = Gguf::open(path);
  ASSERT_FALSE(gguf.has_value());
  EXPECT_EQ(gguf.error().code, ErrorCode::kLimit) << gguf.error().message;
}

TEST(GgufRows, G10_AnOddBoolIsAWarningAndAnErrorWhenStrict) {
  GgufWriter w = small();
  w.raw_key("a.flag", 7, "\x02");
  const std::string file = w.build();
  const auto gguf = parse(file);
  ASSERT_TRUE(gguf.has_value()) << gguf.error().message;
  ASSERT_EQ(gguf.value().warnings().size(), 1u);
  EXPECT_THAT(gguf.value().warnings()[0], HasSubstr("a.flag"));
  EXPECT_TRUE(gguf.value().get_bool("a.flag").value());
  EXPECT_THAT(refused(file, ErrorCode::kData, true).message, HasSubstr("a.flag"));
}

TEST(GgufRows, G11_AlignmentIsAPowerOfTwo) {
  for (const uint32_t alignment : {0u, 1u, 13u, 1u << 31}) {
    GgufWriter w = small();
    w.key("general.alignment", alignment);
    EXPECT_THAT(refused(w.build(), ErrorCode::kData).message, HasSubstr("general.alignment"));
  }
  GgufWriter w = small();
  w.key("general.alignment", int32_t{32});
  EXPECT_THAT(refused(w.build(), ErrorCode::kData).message, HasSubstr("u32"));
  GgufWriter wide;
  wide.alignment = 64;
  wide.key("general.alignment", uint32_t{64}).tensor("a", {1}).tensor("b", {1});
  const std::string file = wide.build();
  ASSERT_TRUE(parse(file).has_value()) << parse(file).error().message;
  EXPECT_EQ(parse(file).value().tensors()[1].offset, 64u);
}

TEST(GgufRows, G12_AnEndlessArchitectureIsRefused) {
  for (const std::string& name : {std::string(), std::string(1'000'000, 'a')}) {
    GgufWriter w;
    w.key("general.architecture", name);
    EXPECT_THAT(refused(w.build(), ErrorCode::kData).message, HasSubstr("general.architecture"));
  }
}

TEST(GgufRows, G13_OneToFourDimensions) {
  for (const uint32_t n_dims : {0u, 5u, 0xFFFFFFFFu}) {
    GgufWriter w;
    w.raw_tensor(GgufWriter::text("x") + GgufWriter::number(n_dims) + std::string(64, '\0'));
    EXPECT_THAT(refused(w.build(), ErrorCode::kData).message, HasSubstr(std::to_string(n_dims) + " dimensions"));
  }
}

TEST(GgufRows, G14_SizesThatAreNegativeOrOverflow) {
  const auto with_dims = [](const std::vector<uint64_t>& dims) {
    return GgufWriter().tensor("x", dims, 0, 32).build();
  };
  EXPECT_THAT(refused(with_dims({kHuge}), ErrorCode::kData).message, HasSubstr("negative"));
  EXPECT_THAT(refused(with_dims({uint64_t{1} << 32, uint64_t{1} << 32}), ErrorCode::kData).message, HasSubstr("2^63"));
  EXPECT_THAT(refused(with_dims({uint64_t{1} << 62}), ErrorCode::kData).message, HasSubstr("overflow"));  // its bytes
  // A product that overflows is wrong even if a zero follows.
  EXPECT_FALSE(parse(with_dims({uint64_t{1} << 62, uint64_t{1} << 62, 0})).has_value());
  const std::string none = GgufWriter().tensor("x", {32, 0}).build();
  const auto gguf = parse(none);
  ASSERT_TRUE(gguf.has_value()) << gguf.error().message;
  EXPECT_EQ(gguf.value().tensors()[0].bytes, 0u);
}

TEST(GgufRows, G15_ASumOfSizesThatWrapsIsRefusedAtTheSecond) {
  GgufWriter w;
  constexpr int32_t kI8 = 24;
  w.tensor("first", {0x7FFFFFFFFFFFFFC0}, kI8, 0, 0)
      .tensor("second", {0x7FFFFFFFFFFFFFC0}, kI8, 64, 0x7FFFFFFFFFFFFFC0);
  EXPECT_THAT(refused(w.build(), ErrorCode::kData).message, AllOf(HasSubstr("second"), HasSubstr("overflows")));
}

TEST(GgufRows, G16_RowsAreWholeBlocks) {
  EXPECT_THAT(refused(GgufWriter().tensor("x", {33}, 8, 34).build(), ErrorCode::kData).message,
              AllOf(HasSubstr("Q8_0"), HasSubstr("32")));
  EXPECT_THAT(refused(GgufWriter().tensor("x", {128, 2}, 12, 144).build(), ErrorCode::kData).message,
              AllOf(HasSubstr("Q4_K"), HasSubstr("256")));
}

TEST(GgufRows, G17_RemovedAndUnknownTensorTypes) {
  for (const int32_t type : {4, 5, 31, 32, 33, 36, 37, 38, 42, 255, -1}) {
    EXPECT_THAT(refused(GgufWriter().tensor("x", {256}, type).build(), ErrorCode::kUnsupported).message,
                HasSubstr(std::to_string(type)));
  }
}

TEST(GgufRows, G18_OffsetsAreTheRunningSum) {
  for (const int64_t offset : {1, 16, 32, 128, 1 << 20}) {  // unaligned, inside x.weight, a gap, beyond the file
    GgufWriter w = small();
    w.tensor("y", {8}, 0, -1, offset == 128 ? 512 : offset);
    EXPECT_THAT(refused(w.build(), ErrorCode::kData).message, AllOf(HasSubstr("\"y\""), HasSubstr("offset")));
  }
}

TEST(GgufRows, G19_ATruncatedDownloadSaysHowMuchIsMissing) {
  const std::string file = small().build();
  EXPECT_THAT(refused(file.substr(0, file.size() - 100), ErrorCode::kData).message,
              HasSubstr("the file is 100 bytes short"));
}

TEST(GgufRows, G20_AFileCutWhileItIsOpenIsNoticed) {
  const Folder folder;
  GgufWriter w;
  w.tensor("x", {100'000});
  const std::string path = folder.write("cut.gguf", w.build());
  const auto gguf = Gguf::open(path);
  ASSERT_TRUE(gguf.has_value()) << gguf.error().message;
  ASSERT_EQ(truncate(path.c_str(), 4096), 0);
  volatile std::byte last = gguf.value()->tensors()[0].data.back();
  (void)last;
  EXPECT_EQ(gguf.value()->check_intact().error().code, ErrorCode::kIo);
}

TEST(GgufRows, G21_TrailingBytesAreAWarningAndAnErrorWhenStrict) {
  const std::string file = small().trailing("abc").build();
  const auto gguf = parse(file);
  ASSERT_TRUE(gguf.has_value()) << gguf.error().message;
  EXPECT_THAT(gguf.value().warnings().at(0), HasSubstr("3 bytes follow"));
  EXPECT_THAT(refused(file, ErrorCode::kData, true).message, HasSubstr("3 bytes follow"));
}

std::string shard(uint16_t number, uint16_t count, const std::string& tensor, int32_t n_tensors,
                  const char* architecture = "llama") {
  GgufWriter w;
  w.key("split.no", number).key("split.count", count).key("split.tensors.count", n_tensors);
  w.key("general.architecture", architecture);
  return w.tensor(tensor, {8}).build();
}

TEST(GgufRows, G22_TheFirstShardOpensTheOthers) {
  const Folder folder;
  const std::string first = folder.write("m-00001-of-00002.gguf", shard(0, 2, "a", 2));
  folder.write("m-00002-of-00002.gguf", shard(1, 2, "b", 2));
  const auto gguf = Gguf::open(first);
  ASSERT_TRUE(gguf.has_value()) << gguf.error().message;
  EXPECT_NE(gguf.value()->find_tensor("a"), nullptr);
  ASSERT_NE(gguf.value()->find_tensor("b"), nullptr);
  EXPECT_EQ(gguf.value()->find_tensor("b")->data.size(), 32u);
}

TEST(GgufRows, G22_WrongShardsAreNamed) {
  const Folder folder;
  const std::string first = folder.write("m-00001-of-00002.gguf", shard(0, 2, "a", 2));
  const std::string second = folder.path("m-00002-of-00002.gguf");
  const auto error_with = [&](const std::string& bytes) {
    folder.write("m-00002-of-00002.gguf", bytes);
    const auto gguf = Gguf::open(first);
    return gguf ? Error{} : gguf.error();
  };
  const auto missing = Gguf::open(first);
  ASSERT_FALSE(missing.has_value());
  EXPECT_EQ(missing.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(missing.error().message, AllOf(HasSubstr("shard 2 of 2"), HasSubstr("m-00002-of-00002.gguf")));

  EXPECT_THAT(error_with(shard(0, 2, "b", 2)).message, HasSubstr("shard 1 of 2, not 2 of 2"));
  EXPECT_THAT(error_with(shard(1, 3, "b", 2)).message, HasSubstr("shard 2 of 3, not 2 of 2"));
  EXPECT_THAT(error_with(shard(1, 2, "a", 2)).message, HasSubstr("also in another shard"));
  EXPECT_THAT(error_with(shard(1, 2, "b", 2, "qwen2")).message, HasSubstr("another model"));
  EXPECT_THAT(error_with(small().build()).message, HasSubstr("split.no"));
  EXPECT_EQ(error_with(shard(1, 2, "b", 2)).message, "");
  const auto by_second = Gguf::open(second);
  ASSERT_FALSE(by_second.has_value());
  EXPECT_THAT(by_second.error().message, AllOf(HasSubstr("open the first"), HasSubstr("m-00001-of-00002.gguf")));

  folder.write("m-00001-of-00002.gguf", shard(0, 2, "a", 7));
  EXPECT_THAT(Gguf::open(first).error().message, HasSubstr("split.tensors.count"));
  const std::string renamed = folder.write("other.gguf", shard(0, 2, "a", 2));
  EXPECT_THAT(Gguf::open(renamed).error().message, HasSubstr("-00001-of-00002.gguf"));
  const std::string endless = folder.write(
      "e-00001-of-00002.gguf", GgufWriter().key("split.count", ~uint64_t{0}).key("split.no", uint16_t{0}).build());
  EXPECT_EQ(Gguf::open(endless).error().code, ErrorCode::kLimit);
}

TEST(GgufRows, G25_TensorNamesThatCouldFoolALogOrAPath) {
  const std::vector<std::string> names = {
      std::string(64, 'n'), "", "../../etc/passwd", "a\x1b[2Jb", "a\nfovea: ok", std::string("a\0b", 3), "caf\xC3\xA9"};
  for (const std::string& name : names) (void)refused(GgufWriter().tensor(name, {8}).build(), ErrorCode::kData);
  EXPECT_TRUE(parse(GgufWriter().tensor(std::string(63, 'n'), {8}).build()).has_value());
}

TEST(GgufRows, L1_APathIsQuotedAndItsTroubleNamed) {
  const Folder folder;
  const auto code_of = [](const std::string& path) { return Gguf::open(path).error().code; };
  EXPECT_EQ(code_of(folder.path("none.gguf")), ErrorCode::kNotFound);
  EXPECT_EQ(code_of(folder.path(std::string(5000, 'p'))), ErrorCode::kNotFound);
  fs::create_symlink(folder.path("loop"), folder.path("loop"));
  EXPECT_EQ(code_of(folder.path("loop")), ErrorCode::kNotFound);
  EXPECT_THAT(Gguf::open(folder.path("a\n\x1b[2J\xff'\".gguf")).error().message,
              AllOf(Not(HasSubstr("\n")), Not(HasSubstr("\x1b")), Not(HasSubstr("\xff"))));
  const std::string odd = folder.write("it's \"caf\xC3\xA9\" \n.gguf", small().build());
  EXPECT_TRUE(Gguf::open(odd).has_value());
  if (geteuid() == 0) return;  // root may read everything
  const std::string secret = folder.write("secret.gguf", small().build());
  ASSERT_EQ(chmod(secret.c_str(), 0), 0);
  EXPECT_EQ(code_of(secret), ErrorCode::kPermission);
}

}  // namespace gguf_rows_test
}  // namespace fovea::formats
