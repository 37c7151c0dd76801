#include "fovea/base/file_appender.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "fovea/base/file.h"

namespace fovea {
namespace file_appender_test {

using ::testing::HasSubstr;

TEST(FileAppender, AddsBehindWhatIsThere) {
  const std::string path = ::testing::TempDir() + "appended-" + std::to_string(getpid());
  ASSERT_TRUE(write_file_atomic(path, "one\n").has_value());
  {
    auto file = FileAppender::open(path);
    ASSERT_TRUE(file.has_value()) << file.error().message;
    EXPECT_TRUE(file->write("two\n").has_value());
    EXPECT_EQ(*read_file(path), "one\ntwo\n");  // at once
    EXPECT_TRUE(file->write("three\n").has_value());
  }
  EXPECT_EQ(*read_file(path), "one\ntwo\nthree\n");
  std::filesystem::remove(path);
}

TEST(FileAppender, RefusesWhatIsNoFile) {
  const std::string fifo = ::testing::TempDir() + "fifo-" + std::to_string(getpid());
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  EXPECT_FALSE(FileAppender::open(fifo).has_value());  // and does not wait for a reader
  std::filesystem::remove(fifo);
  EXPECT_FALSE(FileAppender::open(::testing::TempDir()).has_value());
  const auto device = FileAppender::open("/dev/null");
  ASSERT_FALSE(device.has_value());
  EXPECT_THAT(device.error().message, HasSubstr("is no regular file"));
  EXPECT_THAT(FileAppender::open("/no/such/folder/x").error().message, HasSubstr("/no/such/folder/x"));
}

}  // namespace file_appender_test
}  // namespace fovea
