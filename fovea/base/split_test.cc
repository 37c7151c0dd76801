#include "fovea/base/split.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace fovea {
namespace split_test {

using ::testing::ElementsAre;

TEST(Split, GivesEveryPartEmptyOnesIncluded) {
  EXPECT_THAT(split("a,bc", ','), ElementsAre("a", "bc"));
  EXPECT_THAT(split(",a,,", ','), ElementsAre("", "a", "", ""));
  EXPECT_THAT(split("a,b", ':'), ElementsAre("a,b"));
  EXPECT_THAT(split("", ','), ElementsAre(""));
}

}  // namespace split_test
}  // namespace fovea
