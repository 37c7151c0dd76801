#include "papers/support/checks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "fovea/base/check.h"
#include "fovea/base/file.h"
#include "fovea/base/testing/paths.h"

namespace fovea::papers {
namespace checks_test {

using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(EveryPaper, HasItsFolderAndEveryFolderItsPaper) {
  std::set<std::string> folders, slugs;
  for (const auto& entry : std::filesystem::directory_iterator(source_dir() + "/papers")) {
    if (entry.is_directory() && entry.path().filename() != "support") folders.insert(entry.path().filename());
  }
  for (const auto& [slug, paper] : papers()) slugs.insert(slug);
  EXPECT_EQ(slugs, folders);
}

TEST(EveryPaper, ChecksEveryItemOfItsCardAlsoUnderFast) {
  for (const auto& [slug, paper] : papers()) {
    std::set<int> fast;
    std::set<std::string> names;
    for (const Check& check : paper.checks) {
      EXPECT_TRUE(check.item >= 1 && check.item <= paper.n_items) << slug << ": " << check.name;
      EXPECT_TRUE(names.insert(check.name).second) << slug << ": two checks are called " << check.name;
      EXPECT_FALSE(check.expected.empty()) << slug << ": " << check.name;
      if (check.in_fast) fast.insert(check.item);
    }
    EXPECT_EQ(static_cast<int>(fast.size()), paper.n_items) << slug;
  }
}

TEST(EveryPaper, HasARecordOfItsPresentChecks) {
  for (const auto& [slug, paper] : papers()) {
    const auto text = read_file(source_dir() + "/papers/" + slug + "/expected.json");
    ASSERT_TRUE(text.has_value()) << text.error().message;
    const auto json = nlohmann::json::parse(*text, nullptr, false);
    ASSERT_TRUE(json.is_object() && json.contains("runs") && !json["runs"].empty()) << slug;
    for (const auto& run : json["runs"]) {
      for (const char* key : {"model", "model_sha256", "seed", "command", "machine", "checks"})
        EXPECT_TRUE(run.contains(key)) << slug << ": " << key;
      std::set<std::string> recorded;
      for (const char* list : {"checks", "skipped"}) {
        for (const auto& check : run[list]) recorded.insert(check["name"].get<std::string>());
      }
      for (const Check& check : paper.checks) EXPECT_TRUE(recorded.contains(check.name)) << slug << ": " << check.name;
    }
  }
}

TEST(Papers, AreFoundWithDashesOrUnderscoresAndAnUnknownOneNamesTheNearest) {
  ASSERT_TRUE(find_paper("retrieval_heads").has_value());
  EXPECT_EQ((*find_paper("retrieval_heads"))->slug, "retrieval-heads");
  const auto unknown = find_paper("retrieval-head\n");
  ASSERT_FALSE(unknown.has_value());
  EXPECT_EQ(unknown.error().code, ErrorCode::kUsage);
  EXPECT_THAT(unknown.error().message, AllOf(HasSubstr("\"retrieval-head\\x0A\""), HasSubstr(" retrieval-heads")));
}

TEST(Papers, OfOneNameAreRefused) { EXPECT_THROW(register_paper({.slug = "retrieval-heads"}), CheckFailed); }

}  // namespace checks_test
}  // namespace fovea::papers
