#include "fovea/base/nearest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace fovea {
namespace nearest_test {

using ::testing::ElementsAre;

TEST(NearestNames, CountsInsertionsDeletionsSubstitutionsAndSwaps) {
  EXPECT_EQ(edit_distance("", "abc"), 3u);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3u);
  EXPECT_EQ(edit_distance("same", "same"), 0u);
  EXPECT_EQ(edit_distance("rnu", "run"), 1u);
  EXPECT_EQ(edit_distance("abcd", "badc"), 2u);
}

TEST(NearestNames, PutsTheMostSimilarFirst) {
  EXPECT_THAT(nearest_names("shwo", {"pull", "check", "show", "shown"}, 2), ElementsAre("show", "shown"));
  EXPECT_THAT(nearest_names("x", {}), ElementsAre());
}

TEST(NearestNames, CaseAndKindOfDashAreNoDistance) {
  EXPECT_EQ(edit_distance("AdamW", "adamw"), 0u);
  EXPECT_EQ(edit_distance("one_cycle", "one-cycle"), 0u);
  EXPECT_THAT(nearest_names("SGD", {"muon", "sgd"}, 1), ElementsAre("sgd"));
}

TEST(NearestNames, ABeginningIsNear) {
  const std::vector<std::string> names = {"--ctk", "--ctx-size", "--context-shift"};
  EXPECT_THAT(nearest_names("--ctx-s", names, 1), ElementsAre("--ctx-size"));
  EXPECT_EQ(meant_name("quant", {"quality", "quantize"}), "quantize");
  EXPECT_EQ(meant_name("stream", {"top-k", "streaming-llm"}), "streaming-llm");
  EXPECT_EQ(meant_name("st", {"top-k", "streaming-llm"}), std::nullopt);
  EXPECT_EQ(meant_name("nothing-like-it", {"top-k", "streaming-llm"}), std::nullopt);
  EXPECT_EQ(meant_name("x", {}), std::nullopt);
}

}  // namespace nearest_test
}  // namespace fovea
