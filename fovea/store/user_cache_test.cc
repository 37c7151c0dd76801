#include "fovea/store/user_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>  // mkdtemp

#include <filesystem>

#include "fovea/base/file.h"

namespace fovea::store {
namespace user_cache_test {

namespace fs = std::filesystem;
using ::testing::StartsWith;

class HashCache : public ::testing::Test {
 protected:
  void SetUp() override {
    root_ = ::testing::TempDir() + "/hash-XXXXXX";
    ASSERT_NE(mkdtemp(root_.data()), nullptr);
    options_ = {.dir = root_ + "/cache/sha256", .settle = std::chrono::nanoseconds(0)};
    path_ = root_ + "/model";
    put("one");
  }
  void TearDown() override { fs::remove_all(root_); }

  void put(const std::string& bytes) const { ASSERT_TRUE(write_file_atomic(path_, bytes).has_value()); }
  std::string hash() const {
    const auto hash = cached_sha256(path_, options_);
    EXPECT_TRUE(hash.has_value()) << hash.error().message;
    return *hash;
  }
  std::string true_hash() const { return sha256_of_file(path_).value(); }
  std::string kept() const {
    std::error_code none;
    for (const auto& entry : fs::directory_iterator(options_.dir, none)) return entry.path().string();
    return "";
  }
  // Puts a hash that is not the file's in its place: who returns it has not read the file.
  void plant(const std::string& hash) const {
    std::string text = read_file(kept()).value();
    text.replace(0, hash.size(), hash);
    ASSERT_TRUE(write_file_atomic(kept(), text).has_value());
  }

  std::string root_, path_;
  HashCacheOptions options_;
  const std::string planted_ = std::string(64, 'a');
};

TEST_F(HashCache, ReadsAFileOnce) {
  EXPECT_EQ(hash(), true_hash());
  plant(planted_);
  EXPECT_EQ(hash(), planted_);
  const std::string link = root_ + "/link";
  fs::create_symlink(path_, link);
  EXPECT_EQ(cached_sha256(link, options_).value(), planted_);
}

TEST_F(HashCache, NoticesEveryChange) {
  const auto expect_noticed = [&](const char* what) {
    hash();
    plant(planted_);
    return testing::AssertionResult(hash() == planted_) << what;
  };
  EXPECT_TRUE(expect_noticed("no change"));
  const auto date = fs::last_write_time(path_);
  put("two");  // another inode
  fs::last_write_time(path_, date);
  EXPECT_EQ(hash(), true_hash());
  EXPECT_TRUE(expect_noticed("no change"));
  {  // in place, of the same size, with the old date put back
    const std::unique_ptr<FILE, int (*)(FILE*)> file(std::fopen(path_.c_str(), "r+"), &std::fclose);
    std::fputs("six", file.get());
  }
  fs::last_write_time(path_, date);
  EXPECT_EQ(hash(), true_hash());
  EXPECT_TRUE(expect_noticed("no change"));
  fs::resize_file(path_, 2);
  EXPECT_EQ(hash(), true_hash());
}

TEST_F(HashCache, AFileThatWasJustChangedIsReadEveryTime) {
  options_.settle = std::chrono::hours(1);
  EXPECT_EQ(hash(), true_hash());
  EXPECT_EQ(kept(), "");
}

TEST_F(HashCache, ADamagedEntryOrNoPlaceForOneCostsAReadOnly) {
  hash();
  const std::string good = read_file(kept()).value(), name = kept();
  for (const std::string& bad : {std::string(), std::string("\n"), good.substr(0, good.size() - 1), good + "x",
                                 "A" + good.substr(1), good.substr(1), std::string(64, 'a') + "\n"}) {
    ASSERT_TRUE(write_file_atomic(name, bad).has_value());
    EXPECT_EQ(hash(), true_hash());
    EXPECT_EQ(read_file(name).value(), good);
  }
  options_.dir = path_ + "/below";  // a file is no folder
  EXPECT_EQ(hash(), true_hash());
  options_.dir = "";
  EXPECT_EQ(hash(), true_hash());
  const auto absent = cached_sha256(path_ + ".not", options_);
  ASSERT_FALSE(absent.has_value());
  EXPECT_EQ(absent.error().code, ErrorCode::kNotFound);
}

}  // namespace user_cache_test
}  // namespace fovea::store
