#include "fovea/base/file_writer.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <string>
#include <thread>

#include "fovea/base/file.h"

namespace fovea {
namespace file_writer_test {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class FileWriterTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = ::testing::TempDir() + "/fovea_writer-XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override { fs::remove_all(folder_); }
  std::string path(const std::string& name) const { return (folder_ / name).string(); }
  long entries() const { return std::distance(fs::directory_iterator(folder_), fs::directory_iterator()); }
  static Status write(const std::string& to, std::string_view text, WriteTo how = WriteTo::kAnything) {
    FOVEA_ASSIGN_OR_RETURN(FileWriter file, FileWriter::create(to, how));
    FOVEA_RETURN_IF_ERROR(file.write(text));
    return file.commit();
  }
  static mode_t mode_of(const std::string& file) {
    struct stat info {};
    EXPECT_EQ(lstat(file.c_str(), &info), 0) << file;
    return info.st_mode;
  }
  fs::path folder_;
};

TEST_F(FileWriterTest, WhatAKilledWriterLeftIsRemovedAndNothingElse) {
  const auto put = [&](const std::string& name, int minutes) {
    ASSERT_TRUE(write(path(name), "half"));
    fs::last_write_time(path(name), fs::file_time_type::clock::now() - std::chrono::minutes(minutes));
  };
  put("x.part-abc123", 5);
  put("x.part-def456", 0);                     // may be about to be locked
  put("x.part-abcdefg", 5);                    // of another name
  put("y.part-abc123", 5);                     // of another file
  auto other = FileWriter::create(path("x"));  // at work still
  ASSERT_TRUE(other.has_value());
  for (const auto& entry : fs::directory_iterator(folder_))
    fs::last_write_time(
        entry, fs::last_write_time(entry) - std::chrono::seconds(entry.path() == path("x.part-def456") ? 0 : 300));
  ASSERT_TRUE(write(path("x"), "new"));
  EXPECT_FALSE(fs::exists(path("x.part-abc123")));
  for (const char* kept : {"x.part-def456", "x.part-abcdefg", "y.part-abc123"})
    EXPECT_TRUE(fs::exists(path(kept))) << kept;
  ASSERT_TRUE(other->write("late") && other->commit());
  EXPECT_EQ(read_file(path("x")).value(), "late");
}

TEST_F(FileWriterTest, ALinkIsFollowedAndItsTargetReplaced) {
  ASSERT_TRUE(write(path("real"), "old"));
  fs::create_directory(folder_ / "sub");
  fs::create_symlink("../real", folder_ / "sub/link");
  fs::create_symlink("sub/link", folder_ / "link");
  fs::create_symlink("new", folder_ / "dangling");
  ASSERT_TRUE(write(path("link"), "one"));
  ASSERT_TRUE(write(path("dangling"), "two"));
  EXPECT_EQ(read_file(path("real")).value(), "one");
  EXPECT_EQ(read_file(path("new")).value(), "two");
  EXPECT_TRUE(S_ISLNK(mode_of(path("link"))) && S_ISLNK(mode_of(path("sub/link"))) &&
              S_ISLNK(mode_of(path("dangling"))));
  EXPECT_EQ(entries(), 5);
  fs::create_symlink("loop", folder_ / "loop");
  EXPECT_FALSE(write(path("loop"), "x"));
}

TEST_F(FileWriterTest, InAStoreOfOursALinkIsReplacedAndNeverFollowed) {
  ASSERT_TRUE(write(path("real"), "old"));
  fs::create_symlink("real", folder_ / "link");
  ASSERT_TRUE(write(path("link"), "one", WriteTo::kOwnFile));
  EXPECT_EQ(read_file(path("real")).value(), "old");
  EXPECT_TRUE(S_ISREG(mode_of(path("link"))));
}

TEST_F(FileWriterTest, AFifoIsWrittenThrough) {
  ASSERT_EQ(mkfifo(path("fifo").c_str(), 0600), 0);
  std::string read;
  std::thread reader([&] { read = read_file(path("fifo")).value(); });
  const std::string text(200'000, 'x');
  EXPECT_TRUE(write(path("fifo"), text));
  reader.join();
  EXPECT_EQ(read, text);
  EXPECT_TRUE(S_ISFIFO(mode_of(path("fifo"))));
  for (const WriteTo how : {WriteTo::kFile, WriteTo::kOwnFile})
    EXPECT_EQ(FileWriter::create(path("fifo"), how).error().code, ErrorCode::kUsage);
}

TEST_F(FileWriterTest, ADeviceIsWrittenThroughAndSaysThatItIsFull) {
  if (mknod(path("null").c_str(), S_IFCHR | 0600, makedev(1, 3)) != 0 ||
      mknod(path("full").c_str(), S_IFCHR | 0600, makedev(1, 7)) != 0 || open(path("null").c_str(), O_WRONLY) < 0) {
    GTEST_SKIP() << "no devices can be made here";
  }
  EXPECT_TRUE(write(path("null"), "x"));
  const Status full = write(path("full"), "x");
  ASSERT_FALSE(full.has_value());
  EXPECT_EQ(full.error().code, ErrorCode::kIo);
  EXPECT_THAT(full.error().message, HasSubstr("No space left"));
  EXPECT_TRUE(S_ISCHR(mode_of(path("null"))) && S_ISCHR(mode_of(path("full"))));
  EXPECT_EQ(entries(), 2);
}

TEST_F(FileWriterTest, WhatCannotBeAFileIsRefusedInOneSentence) {
  const auto refused = [&](const std::string& name, ErrorCode code, const char* says) {
    const auto file = FileWriter::create(name);
    ASSERT_FALSE(file.has_value()) << name;
    EXPECT_EQ(file.error().code, code) << file.error().message;
    EXPECT_THAT(file.error().message, HasSubstr(says));
  };
  fs::create_directory(folder_ / "folder");
  fs::create_directory_symlink("folder", folder_ / "link");
  refused("", ErrorCode::kUsage, "empty");
  refused(path("folder"), ErrorCode::kUsage, "a folder");
  refused(path("folder/"), ErrorCode::kUsage, "a folder");
  refused(path("link"), ErrorCode::kUsage, "a folder");
  refused(path("none/"), ErrorCode::kNotFound, "no folder");
  refused(path("none/file"), ErrorCode::kNotFound, "no folder");
  ASSERT_TRUE(write(path("file"), "x"));
  refused(path("file/file"), ErrorCode::kNotFound, "Not a directory");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  fs::current_path(folder_);
  std::string("socket").copy(address.sun_path, sizeof(address.sun_path) - 1);
  const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  ASSERT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  refused(path("socket"), ErrorCode::kUsage, "a socket");
  close(fd);
  fs::current_path("/");
}

TEST_F(FileWriterTest, NewFilesHeedTheUmaskAndOldOnesKeepTheirMode) {
  const mode_t before = umask(027);
  ASSERT_TRUE(write(path("new"), "x"));
  ASSERT_TRUE(write(path("private"), "x"));
  ASSERT_EQ(chmod(path("private").c_str(), 0600), 0);
  umask(0);
  ASSERT_TRUE(write(path("private"), "y"));
  umask(before);
  EXPECT_EQ(mode_of(path("new")) & 0777, 0640u);
  EXPECT_EQ(mode_of(path("private")) & 0777, 0600u);
}

TEST_F(FileWriterTest, WhatAnotherUserPutWhereEveryoneMayIsNotTouched) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can make files of others";
  fs::create_directory(folder_ / "shared");
  ASSERT_EQ(chown(path("shared").c_str(), 1, 1), 0);
  ASSERT_EQ(chmod(path("shared").c_str(), 01777), 0);
  ASSERT_TRUE(write(path("mine"), "old"));
  fs::create_symlink(path("mine"), path("shared/link"));
  ASSERT_EQ(mkfifo(path("shared/fifo").c_str(), 0666), 0);
  ASSERT_TRUE(write(path("shared/file"), "theirs"));
  for (const char* name : {"shared/link", "shared/fifo", "shared/file"}) {
    ASSERT_EQ(lchown(path(name).c_str(), 2, 2), 0);
    const auto file = FileWriter::create(path(name));
    ASSERT_FALSE(file.has_value()) << name;
    EXPECT_EQ(file.error().code, ErrorCode::kPermission);
    EXPECT_THAT(file.error().message, HasSubstr("another user"));
    ASSERT_EQ(lchown(path(name).c_str(), 0, 0), 0);
  }
  EXPECT_TRUE(write(path("shared/link"), "new"));
  EXPECT_EQ(read_file(path("mine")).value(), "new");
}

TEST_F(FileWriterTest, NamesOfAnyLengthAndWithAnyByteAreWritten) {
  for (const std::string& name : {std::string(255, 'n'), std::string("a\nb\x1b[31m \xFF")}) {
    ASSERT_TRUE(write(path(name), "x"));
    EXPECT_EQ(read_file(path(name)).value(), "x");
  }
  EXPECT_EQ(entries(), 2);
}

TEST_F(FileWriterTest, AFileOverTheLimitFailsAndLeavesTheOldOne) {
  ASSERT_TRUE(write(path("a"), "old"));
  EXPECT_EXIT(
      {
        signal(SIGXFSZ, SIG_IGN);
        rlimit limit{};
        limit.rlim_cur = limit.rlim_max = 1000;
        setrlimit(RLIMIT_FSIZE, &limit);
        const Status written = write(path("a"), std::string(5000, 'x'));
        _exit(!written && written.error().code == ErrorCode::kIo ? 74 : 1);
      },
      ::testing::ExitedWithCode(74), "");
  EXPECT_EQ(read_file(path("a")).value(), "old");
  EXPECT_EQ(entries(), 1);
}

}  // namespace file_writer_test
}  // namespace fovea
