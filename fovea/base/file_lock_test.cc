#include "fovea/base/file_lock.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <optional>
#include <string>

namespace fovea {
namespace file_lock_test {

using ::testing::HasSubstr;

TEST(FileLock, OneHoldsItUntilItIsGone) {
  std::string folder = ::testing::TempDir() + "/fovea_lock-XXXXXX";
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  const std::string path = folder + "/lock";
  std::optional<FileLock> first;
  {
    auto taken = FileLock::take(path, "busy");
    ASSERT_TRUE(taken.has_value()) << taken.error().message;
    first.emplace(std::move(*taken));
  }
  const auto second = FileLock::take(path, "another is at work");
  ASSERT_FALSE(second.has_value());
  EXPECT_EQ(second.error().code, ErrorCode::kUnavailable);
  EXPECT_EQ(second.error().message, "another is at work");
  first.reset();
  EXPECT_TRUE(FileLock::take(path, "busy").has_value());
  std::filesystem::remove_all(folder);
}

TEST(FileLock, NoFolderIsNamed) {
  const auto taken = FileLock::take("/nowhere/at/all/lock", "busy");
  ASSERT_FALSE(taken.has_value());
  EXPECT_THAT(taken.error().message, HasSubstr("/nowhere/at/all/lock"));
}

}  // namespace file_lock_test
}  // namespace fovea
