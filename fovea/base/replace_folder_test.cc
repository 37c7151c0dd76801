#include "fovea/base/replace_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "fovea/base/file.h"

namespace fovea {
namespace replace_folder_test {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class ReplaceFolder : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = ::testing::TempDir() + "/replace-XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    root_ = name;
    to_ = root_ + "/model";
  }
  void TearDown() override { fs::remove_all(root_); }
  static Status put(const std::string& folder, const std::string& name, const std::string& text) {
    std::ofstream(folder + "/" + name) << text;
    return {};
  }
  Status replace(const std::string& text, OldFiles old = OldFiles::kKept) const {
    return replace_folder(to_, old, [&](const std::string& folder) { return put(folder, "a", text); });
  }
  auto entries() const { return std::distance(fs::directory_iterator(root_), fs::directory_iterator()); }
  std::string root_, to_;
};

TEST_F(ReplaceFolder, PutsANewOneInPlaceOfTheOld) {
  ASSERT_TRUE(replace("1").has_value());
  ASSERT_TRUE(replace("2").has_value());
  EXPECT_EQ(read_file(to_ + "/a").value(), "2");
  EXPECT_EQ(entries(), 1);
}

TEST_F(ReplaceFolder, AFailureLeavesTheOldOneAndNothingElse) {
  ASSERT_TRUE(replace("1").has_value());
  const Status failed = replace_folder(to_, OldFiles::kLost, [&](const std::string& folder) -> Status {
    FOVEA_RETURN_IF_ERROR(put(folder, "a", "2"));
    return make_error(ErrorCode::kIo, "full");
  });
  EXPECT_EQ(failed.error().message, "full");
  EXPECT_EQ(read_file(to_ + "/a").value(), "1");
  EXPECT_EQ(entries(), 1);
}

TEST_F(ReplaceFolder, FilesOfOthersAreKeptUnlessAskedFor) {
  ASSERT_TRUE(replace("1").has_value());
  ASSERT_TRUE(put(to_, "notes", "mine").has_value());
  EXPECT_THAT(replace("2").error().message, HasSubstr("holds \"notes\" besides a model"));
  EXPECT_EQ(read_file(to_ + "/a").value(), "1");
  EXPECT_EQ(read_file(to_ + "/notes").value(), "mine");
  fs::remove(to_ + "/notes");
  fs::remove(to_ + "/a");
  fs::create_directories(to_ + "/a/mine");  // a folder of the name of a file
  EXPECT_THAT(replace("2").error().message, HasSubstr("holds \"a\""));
  EXPECT_TRUE(fs::exists(to_ + "/a/mine"));
  ASSERT_TRUE(replace("2", OldFiles::kLost).has_value());
  EXPECT_FALSE(fs::exists(to_ + "/notes"));
  EXPECT_EQ(entries(), 1);
}

TEST_F(ReplaceFolder, RefusesAFileAndAPlaceThatIsNotThere) {
  ASSERT_TRUE(put(root_, "model", "").has_value());
  EXPECT_THAT(replace("1").error().message, HasSubstr("is no folder"));
  to_ = root_ + "/none/model";
  EXPECT_EQ(replace("1").error().code, ErrorCode::kNotFound);
}

}  // namespace replace_folder_test
}  // namespace fovea
