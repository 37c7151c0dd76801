#include "fovea/base/mapped_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

namespace fovea {
namespace mapped_file_test {

using ::testing::HasSubstr;

std::string temp_path(const std::string& name) {
  return ::testing::TempDir() + "fovea_" + std::to_string(getpid()) + "_" + name;
}

TEST(MappedFile, SurvivesTheFileBeingCutUnderneath) {
  const std::string path = temp_path("cut");
  std::ofstream(path) << std::string(1 << 16, 'x');
  auto file = MappedFile::open(path);
  ASSERT_TRUE(file.has_value()) << file.error().message;
  EXPECT_EQ(std::to_integer<char>(file.value()->bytes()[0]), 'x');
  EXPECT_FALSE(file.value()->damaged());
  ASSERT_EQ(truncate(path.c_str(), 0), 0);
  EXPECT_EQ(std::to_integer<int>(file.value()->bytes()[60000]), 0);
  EXPECT_TRUE(file.value()->damaged());
  const Status status = file.value()->check_intact();
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().code, ErrorCode::kIo);
  EXPECT_THAT(status.error().message, HasSubstr(path));
  unlink(path.c_str());
}

TEST(MappedFile, WhatIsReleasedAndItsNeighboursCanBeReadAgain) {
  const std::string path = temp_path("released");
  std::string text(5 << 20, 'x');
  for (size_t i = 0; i < text.size(); i += 4096) text[i] = static_cast<char>('a' + i / 4096 % 26);
  std::ofstream(path) << text;
  auto file = MappedFile::open(path);
  ASSERT_TRUE(file.has_value()) << file.error().message;
  const auto all = file.value()->bytes();
  const auto as_text = [&] { return std::string(reinterpret_cast<const char*>(all.data()), all.size()); };
  ASSERT_EQ(as_text(), text);
  for (const auto part : {all.subspan(3000000, 100), all.first(1), all.last(1), all, all.first(0)}) {
    file.value()->release(part);
    EXPECT_EQ(as_text(), text);
  }
  EXPECT_FALSE(file.value()->damaged());
  unlink(path.c_str());
}

TEST(MappedFile, AnEmptyFileMapsToNothing) {
  const std::string path = temp_path("empty");
  std::ofstream(path).flush();
  auto file = MappedFile::open(path);
  ASSERT_TRUE(file.has_value()) << file.error().message;
  EXPECT_TRUE(file.value()->bytes().empty());
  unlink(path.c_str());
}

TEST(MappedFile, RefusesWhatIsNotARegularFileWithoutBlocking) {
  const std::string fifo = temp_path("fifo");
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  for (const std::string& path : {fifo, std::string("/dev/zero"), std::string("/")}) {
    auto file = MappedFile::open(path);
    ASSERT_FALSE(file.has_value()) << path;
    EXPECT_EQ(file.error().code, ErrorCode::kData) << path;
  }
  unlink(fifo.c_str());
}

TEST(MappedFile, NamesAMissingFile) {
  auto file = MappedFile::open("/no/such/file");
  ASSERT_FALSE(file.has_value());
  EXPECT_EQ(file.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(file.error().message, HasSubstr("/no/such/file"));
}

}  // namespace mapped_file_test
}  // namespace fovea
