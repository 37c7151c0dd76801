#include "fovea/base/file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <vector>

#include "fovea/base/temporary_files.h"

namespace fovea {
namespace file_test {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class FileTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(::testing::TempDir()) / ("fovea_file_" + std::to_string(getpid()));
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }
  std::string path(const std::string& name) const { return (folder_ / name).string(); }
  long entries() const { return std::distance(fs::directory_iterator(folder_), fs::directory_iterator()); }
  fs::path folder_;
};

TEST_F(FileTest, ReadsBackWhatItWroteAndLeavesNothingElse) {
  ASSERT_TRUE(write_file_atomic(path("a"), "one"));
  ASSERT_TRUE(write_file_atomic(path("a"), std::string("two\0three", 9)));
  auto content = read_file(path("a"));
  ASSERT_TRUE(content.has_value()) << content.error().message;
  EXPECT_EQ(content.value(), std::string("two\0three", 9));
  EXPECT_EQ(entries(), 1);
}

// What the handler of a second Ctrl+C does: nothing is destroyed, the process ends.
TEST_F(FileTest, L4_AProcessThatEndsAtOnceCanRemoveItsHalfWrittenFiles) {
  ASSERT_TRUE(write_file_atomic(path("done"), "whole"));
  EXPECT_EXIT(
      {
        auto a = FileWriter::create(path("a"));
        const auto b = FileWriter::create(path("b"));
        auto moved = std::move(a).value();
        { const auto gone = FileWriter::create(path("c")); }
        if (!moved.write("half") || !b || entries() != 3) _exit(1);
        remove_temporary_files();
        _exit(130);
      },
      ::testing::ExitedWithCode(130), "");
  EXPECT_EQ(entries(), 1);
  EXPECT_EQ(read_file(path("done")).value(), "whole");
}

TEST_F(FileTest, MoreFilesThanTheListHoldsAreStillWritten) {
  std::vector<FileWriter> files;
  for (int i = 0; i < 70; ++i) {
    auto file = FileWriter::create(path(std::to_string(i)));
    ASSERT_TRUE(file.has_value()) << file.error().message;
    files.push_back(std::move(file).value());
  }
  for (FileWriter& file : files) EXPECT_TRUE(file.commit().has_value());
  EXPECT_EQ(entries(), 70);
}

TEST_F(FileTest, AWriteThatIsNotCommittedLeavesTheOldFile) {
  ASSERT_TRUE(write_file_atomic(path("a"), "old"));
  {
    auto file = FileWriter::create(path("a"));
    ASSERT_TRUE(file.has_value()) << file.error().message;
    const std::byte half[] = {std::byte{1}};
    ASSERT_TRUE(file.value().write(std::span(half)));
  }
  EXPECT_EQ(read_file(path("a")).value(), "old");
  EXPECT_EQ(entries(), 1);
}

TEST_F(FileTest, ErrorsNameThePathAndTheCause) {
  auto missing = read_file(path("none"));
  ASSERT_FALSE(missing.has_value());
  EXPECT_EQ(missing.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(missing.error().message, HasSubstr("none"));
  EXPECT_FALSE(read_file(folder_.string()).has_value());
  EXPECT_FALSE(write_file_atomic(path("no/such/folder"), "x").has_value());
  ASSERT_TRUE(write_file_atomic(path("long"), "12345"));
  auto cut = read_file(path("long"), 4);
  ASSERT_FALSE(cut.has_value());
  EXPECT_EQ(cut.error().code, ErrorCode::kLimit);
}

TEST_F(FileTest, HashesAsTheStandardSays) {
  ASSERT_TRUE(write_file_atomic(path("abc"), "abc"));
  EXPECT_EQ(sha256_of_file(path("abc")).value(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256_of({}), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

}  // namespace file_test
}  // namespace fovea
