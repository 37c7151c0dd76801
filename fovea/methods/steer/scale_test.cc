#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fovea/attention/testing/one_layer.h"

namespace fovea::attention {
namespace scale_test {

using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(Scale, MultipliesTheOutputOfTheChosenHeadsOnly) {
  OneLayer dense, scaled("scale:heads=0.1+1:value=-0.5");
  const std::vector<float> before = dense.feed(5), after = scaled.feed(5);
  for (int row = 0; row < 5; ++row) {
    for (int head = 0; head < 4; ++head) {
      std::vector<float> expected = dense.of_head(before, row, head);
      if (head == 1) {
        for (float& x : expected) x *= -0.5f;
      }
      EXPECT_EQ(scaled.of_head(after, row, head), expected) << row << " " << head;
    }
  }
}

TEST(Scale, ZeroAblatesAHead) {
  OneLayer ablated("scale:heads=0.2:value=0");
  EXPECT_EQ(ablated.of_head(ablated.feed(3), 2, 2), std::vector<float>(16, 0.0f));
}

TEST(Scale, OneLeavesEveryBitAlone) {
  OneLayer dense, idle("scale:value=1");
  EXPECT_EQ(idle.feed(40), dense.feed(40));
}

TEST(Scale, RefusesWhatIsOutOfRangeOrNotThereAndNamesIt) {
  const ModelShape shape = OneLayer::small_shape();
  const auto huge = Pipeline::parse("scale:value=1e6", shape);
  ASSERT_FALSE(huge.has_value());
  EXPECT_THAT(huge.error().message, AllOf(HasSubstr("scale"), HasSubstr("value"), HasSubstr("1000")));
  const auto absent = Pipeline::parse("scale:heads=0.9", shape);
  ASSERT_FALSE(absent.has_value());
  EXPECT_THAT(absent.error().message, AllOf(HasSubstr("scale"), HasSubstr("head 9"), HasSubstr("0 to 3")));
}

}  // namespace scale_test
}  // namespace fovea::attention
