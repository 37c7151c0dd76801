#include "fovea/engine/documents.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace fovea::engine {
namespace documents_test {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class DocumentsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    root_ = fs::path(::testing::TempDir()) / ("documents-" + std::to_string(getpid()));
    fs::create_directories(root_);
  }
  void TearDown() override { fs::remove_all(root_); }
  std::string file(const std::string& name, const std::string& text) const {
    fs::create_directories((root_ / name).parent_path());
    std::ofstream(root_ / name, std::ios::binary) << text;
    return path(name);
  }
  std::string path(const std::string& name) const { return (root_ / name).string(); }
  static std::vector<std::string> texts(const Documents& documents) {
    std::vector<std::string> out;
    for (const Document& document : documents.read) out.push_back(document.text);
    return out;
  }
  static Result<Documents> read(const std::vector<std::string>& names) { return read_documents(names); }

  fs::path root_;
};

TEST_F(DocumentsTest, AFolderIsItsTextsByNameAndSaysWhatItLeavesOut) {
  file("f/b.txt", "b");
  file("f/a.md", "a");
  file("f/image.png", std::string("\x89PNG\0\0", 6));
  file("f/empty.txt", "");
  file("f/.hidden", "h");
  file("f/sub/c.txt", "c");
  const auto documents = read({path("f")});
  ASSERT_TRUE(documents.has_value()) << documents.error().message;
  EXPECT_THAT(texts(*documents), ElementsAre("a", "b"));
  EXPECT_EQ(documents->read[0].name, path("f/a.md"));
  EXPECT_EQ(documents->skipped.size(), 3u);
  EXPECT_THAT(documents->skipped, ::testing::Contains(HasSubstr("image.png")));
  EXPECT_THAT(documents->skipped, ::testing::Contains(HasSubstr("sub\"")));
}

TEST_F(DocumentsTest, APatternThatNoShellReadIsRead) {
  file("b.txt", "b");
  file("a.txt", "a");
  file("c.md", "c");
  EXPECT_THAT(texts(*read({path("*.txt")})), ElementsAre("a", "b"));
  EXPECT_THAT(texts(*read({path("[bc].*")})), ElementsAre("b", "c"));
  EXPECT_THAT(texts(*read({path("b.txt"), path("?.txt")})), ElementsAre("b", "a"));  // nothing twice
  file("*.txt", "star");
  EXPECT_THAT(texts(*read({path("*.txt")})), ElementsAre("star"));  // a file of that name comes first
  const auto none = read({path("*.rst")});
  ASSERT_FALSE(none.has_value());
  EXPECT_TRUE(none.error().code == ErrorCode::kNotFound);
  EXPECT_THAT(none.error().message, HasSubstr("*.rst"));
}

TEST_F(DocumentsTest, WhatIsNamedItselfMustBeText) {
  const std::string image = file("image.png", std::string("\x89PNG\0\0", 6));
  EXPECT_THAT(read({image}).error().message, HasSubstr("image.png"));
  fs::create_directories(path("empty"));
  EXPECT_THAT(read({path("empty")}).error().message, HasSubstr("there is no text in it"));
  file("images/a.png", std::string("\x89PNG\0\0", 6));
  EXPECT_THAT(read({path("images")}).error().message, AllOf(HasSubstr("among its files"), HasSubstr("a.png")));
  EXPECT_THAT(read({"-", "-"}).error().message, HasSubstr("once"));
  ASSERT_EQ(mkfifo(path("images/pipe").c_str(), 0600), 0);
  EXPECT_FALSE(read({path("images")}).has_value());  // and nobody waits for a writer
}

}  // namespace documents_test
}  // namespace fovea::engine
