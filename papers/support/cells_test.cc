#include "papers/support/cells.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>

#include "fovea/base/file.h"

namespace fovea::papers {
namespace cells_test {

namespace fs = std::filesystem;

class Cells : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = ::testing::TempDir() + "/cells-XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    root_ = name;
    dir_ = name + "/papers/x";
  }
  void TearDown() override { fs::remove_all(root_); }
  // As another run of the program would.
  Result<CellValues> get(const Json& key, double value, bool again = false) {
    return CellStore(dir_, again).get(key, [&]() -> Result<Json> {
      ++n_measured_;
      return Json{{"value", value}};
    });
  }
  std::string root_, dir_;
  int n_measured_ = 0;
};

const Json kKey = {{"arm", "dense"}, {"setting", {{"length", 512}}}, {"seed", 0}};

TEST_F(Cells, AreMeasuredOnceAndHoldTheSameNumbersInTheNextRun) {
  const double value = 1.0 / 3;
  const auto first = get(kKey, value), second = get(kKey, 7);
  ASSERT_TRUE(first.has_value() && second.has_value());
  EXPECT_FALSE(first->kept);
  EXPECT_TRUE(second->kept);
  EXPECT_EQ(second->values, first->values);
  EXPECT_EQ(second->values["value"].get<double>(), value);
  EXPECT_EQ(n_measured_, 1);
}

TEST_F(Cells, OfAnotherKeyAreOthers) {
  Json other = kKey;
  other["seed"] = 1;
  ASSERT_TRUE(get(kKey, 1).has_value());
  EXPECT_EQ(get(other, 2)->values["value"], 2.0);
  EXPECT_EQ(get(kKey, 3)->values["value"], 1.0);
}

TEST_F(Cells, WhoseFileIsDamagedAreMadeAnew) {
  ASSERT_TRUE(get(kKey, 1).has_value());
  const std::string path = CellStore(dir_).path_of(kKey);
  const std::string good = read_file(path).value();
  std::string changed = good, other_key = good;
  changed.replace(changed.find(":1.0}") + 1, 3, "9.0");
  other_key.replace(other_key.find("dense"), 5, "other");
  for (const std::string& bad : {std::string(), good.substr(0, good.size() / 2), changed, other_key, std::string("[]"),
                                 std::string("{\"key\": 1}"), std::string(100'000, '[')}) {
    ASSERT_TRUE(write_file_atomic(path, bad).has_value());
    n_measured_ = 0;
    const auto cell = get(kKey, 1);
    ASSERT_TRUE(cell.has_value()) << cell.error().message;
    EXPECT_EQ(cell->values["value"], 1.0) << bad.substr(0, 200);
    EXPECT_EQ(n_measured_, 1) << bad.substr(0, 200);
    EXPECT_TRUE(get(kKey, 1)->kept) << "the new file is good";
  }
}

TEST_F(Cells, OfNoRegularFileAreMadeAnew) {
  ASSERT_TRUE(get(kKey, 1).has_value());
  const std::string path = CellStore(dir_).path_of(kKey);
  fs::remove(path);
  ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);  // reading it would wait for a writer
  EXPECT_EQ(get(kKey, 2)->values["value"], 2.0);
}

TEST_F(Cells, ThatCouldNotBeMeasuredAreNotKept) {
  const auto failed =
      CellStore(dir_).get(kKey, []() -> Result<Json> { return make_error(ErrorCode::kCancelled, "interrupted"); });
  ASSERT_FALSE(failed.has_value());
  EXPECT_EQ(failed.error().code, ErrorCode::kCancelled);
  EXPECT_FALSE(get(kKey, 1)->kept);
}

TEST_F(Cells, AreMeasuredAgainWhenAskedForAndOnceInARun) {
  ASSERT_TRUE(get(kKey, 1).has_value());
  EXPECT_EQ(get(kKey, 2, /*again=*/true)->values["value"], 2.0);
  EXPECT_EQ(get(kKey, 3)->values["value"], 2.0);
  CellStore store(dir_, /*again=*/true);
  int n = 0;
  for (int i = 0; i < 2; ++i)
    ASSERT_TRUE(store.get(kKey, [&]() -> Result<Json> { return Json{{"n", ++n}}; }).has_value());
  EXPECT_EQ(n, 1);
}

TEST_F(Cells, AreNotBelievedFromAFolderThatEveryoneMayWriteInto) {
  ASSERT_TRUE(get(kKey, 1).has_value());
  fs::permissions(dir_, fs::perms::others_write, fs::perm_options::add);
  EXPECT_FALSE(get(kKey, 1)->kept);
}

}  // namespace cells_test
}  // namespace fovea::papers
