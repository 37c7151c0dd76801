#include "fovea/probe/measures/compare_profiles.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>

#include "fovea/base/file.h"

namespace fovea::probe {
namespace compare_profiles_test {

using ::testing::AllOf;
using ::testing::HasSubstr;

attention::HeadProfile profile(std::vector<double> scores, int n_heads = 2) {
  attention::HeadProfile out;
  out.n_heads = n_heads;
  out.n_layers = static_cast<int>(scores.size()) / n_heads;
  out.columns["retrieval"].values = std::move(scores);
  return out;
}

TEST(CompareProfiles, CorrelatesValuesAndRanks) {
  const auto found = compare_profiles(profile({0.0, 0.1, 0.4, 0.9}), profile({0.0, 0.2, 0.3, 0.1}), "retrieval", 2);
  ASSERT_TRUE(found.has_value()) << found.error().message;
  // By hand: means 0.35 and 0.15; sums of products 0.02, of squares 0.49 and 0.05.
  EXPECT_NEAR(found->pearson, 0.02 / std::sqrt(0.49 * 0.05), 1e-12);
  EXPECT_NEAR(found->spearman, 0.4, 1e-12);  // ranks 3 2 1 0 and 3 1 0 2
  EXPECT_EQ(found->n, 4);
  EXPECT_EQ(found->common, 1);  // the third head
  EXPECT_EQ(found->over_a, 3);
  EXPECT_EQ(found->over_b, 3);
  EXPECT_EQ(found->over_both, 3);
}

TEST(CompareProfiles, GivesEqualValuesTheirMeanRank) {
  const auto found = compare_profiles(profile({0, 0, 0, 1}), profile({0, 0, 1, 2}), "retrieval");
  ASSERT_TRUE(found.has_value()) << found.error().message;
  // Ranks 2 2 2 0 and 2.5 2.5 1 0, means 1.5: products 3, squares 3 and 4.5.
  EXPECT_NEAR(found->spearman, 3 / std::sqrt(3 * 4.5), 1e-12);
}

TEST(CompareProfiles, OfAProfileWithItselfAreOneAndOrderDoesNotMatter) {
  const auto a = profile({0.3, 0.1, 0.4, 0.1, 0.5, 0.9}), b = profile({0.2, 0.7, 0.1, 0.8, 0.2, 0.8});
  const auto same = compare_profiles(a, a, "retrieval").value();
  EXPECT_NEAR(same.pearson, 1, 1e-12);
  EXPECT_NEAR(same.spearman, 1, 1e-12);
  EXPECT_EQ(same.common, 6);
  EXPECT_EQ(compare_profiles(a, b, "retrieval")->pearson, compare_profiles(b, a, "retrieval")->pearson);
}

TEST(CompareProfiles, RefusesOtherGridsMissingValuesAndEqualOnes) {
  const auto grid = compare_profiles(profile({0, 1, 2, 3}), profile({0, 1, 2, 3}, 4), "retrieval");
  ASSERT_FALSE(grid.has_value());
  EXPECT_THAT(grid.error().message, AllOf(HasSubstr("2 layers of 2 heads"), HasSubstr("1 layers of 4")));
  const auto none = compare_profiles(profile({0, 1}), profile({0, 1}), "induction");
  ASSERT_FALSE(none.has_value());
  EXPECT_THAT(none.error().message, HasSubstr("induction"));
  const auto flat = compare_profiles(profile({0, 1}), profile({0, 0}), "retrieval");
  ASSERT_FALSE(flat.has_value());
  EXPECT_THAT(flat.error().message, AllOf(HasSubstr("second"), HasSubstr("every head")));
}

TEST(ReadAnyProfile, TakesItsSizeFromTheFileAndChecksIt) {
  const std::string path = ::testing::TempDir() + "/profile-" + std::to_string(getpid()) + ".json";
  const auto read = [&](const std::string& text) {
    EXPECT_TRUE(write_file_atomic(path, text).has_value());
    return read_any_profile(path);
  };
  const auto good = read(
      R"({"version":1,"model_sha256":"x","n_layers":1,"n_heads":2,"heads":[{"layer":0,"head":0,"retrieval":0.5},{"layer":0,"head":1,"retrieval":0}]})");
  ASSERT_TRUE(good.has_value()) << good.error().message;
  EXPECT_EQ(good->n_heads, 2);
  EXPECT_EQ(good->find("retrieval")->at(0), 0.5);
  for (const char* bad : {"[]", "{", R"({"version":1})", R"({"n_layers":0,"n_heads":2})",
                          R"({"n_layers":1,"n_heads":99999999999})", R"({"n_layers":1,"n_heads":"2"})",
                          R"({"version":1,"model_sha256":"x","n_layers":30000,"n_heads":30000,"heads":[]})"}) {
    const auto refused = read(bad);
    ASSERT_FALSE(refused.has_value()) << bad;
    EXPECT_EQ(refused.error().code, ErrorCode::kData) << bad;
    EXPECT_THAT(refused.error().message, HasSubstr(".json")) << bad;
  }
  unlink(path.c_str());
}

}  // namespace compare_profiles_test
}  // namespace fovea::probe
