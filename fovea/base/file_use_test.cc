#include "fovea/base/file_use.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <optional>

#include "fovea/base/file_writer.h"
#include "fovea/base/mapped_file.h"
#include "fovea/base/testing/paths.h"

namespace fovea {
namespace file_use_test {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class FileUse : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string name = ::testing::UnitTest::GetInstance()->current_test_info()->name();
    folder_ = fs::temp_directory_path() / ("fovea_file_use_" + name);
    fs::remove_all(folder_);
    fs::create_directories(folder_);
    ASSERT_TRUE(write_file_atomic(path("model"), "weights"));
  }
  void TearDown() override { fs::remove_all(folder_); }
  std::string path(const std::string& name) const { return folder_ / name; }
  fs::path folder_;
};

TEST_F(FileUse, WhatIsReadIsNotReplacedUnderAnyOfItsNames) {
  fs::create_symlink("model", path("link"));
  fs::create_hard_link(path("model"), path("twin"));
  auto mapped = MappedFile::open(path("model"));
  ASSERT_TRUE(mapped);
  for (const char* name : {"model", "link", "twin"}) {
    const auto writer = FileWriter::create(path(name));
    ASSERT_FALSE(writer) << name;
    EXPECT_EQ(writer.error().code, ErrorCode::kUsage);
    EXPECT_THAT(writer.error().message, HasSubstr("is being read"));
  }
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), {}), 3) << "a temporary file was left";
  mapped.value().reset();
  EXPECT_TRUE(FileWriter::create(path("model")));
}

TEST_F(FileUse, WhatIsAboutToBeReplacedIsNotRead) {
  {
    auto writer = FileWriter::create(path("model"));
    ASSERT_TRUE(writer);
    const auto mapped = MappedFile::open(path("model"));
    ASSERT_FALSE(mapped);
    EXPECT_EQ(mapped.error().code, ErrorCode::kUsage);
    EXPECT_THAT(mapped.error().message, HasSubstr("also the file to be written"));
  }
  EXPECT_TRUE(MappedFile::open(path("model"))) << "a writer that gave up still holds it";
  {
    auto writer = FileWriter::create(path("model"));
    ASSERT_TRUE(writer);
    ASSERT_TRUE(writer->write("new"));
    ASSERT_TRUE(writer->commit());
    EXPECT_TRUE(MappedFile::open(path("model"))) << "a writer that is done still holds it";
  }
}

TEST_F(FileUse, ANewFileIsNobodys) {
  const auto mapped = MappedFile::open(path("model"));
  ASSERT_TRUE(mapped);
  EXPECT_TRUE(write_file_atomic(path("other"), "text"));
}

}  // namespace file_use_test
}  // namespace fovea
