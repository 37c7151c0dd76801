#include "fovea/tasks/needle.h"

#include <gtest/gtest.h>

#include "fovea/base/interrupt.h"

namespace fovea::tasks {
namespace needle_test {

TEST(Haystacks, AreNotSaidToBeMissingWhenTheirReadingIsInterrupted) {
  ASSERT_TRUE(default_haystacks().has_value());
  interrupt_flag() = true;
  const auto texts = default_haystacks();
  interrupt_flag() = false;
  ASSERT_FALSE(texts.has_value());
  EXPECT_EQ(texts.error().code, ErrorCode::kCancelled) << texts.error().message;
}

}  // namespace needle_test
}  // namespace fovea::tasks
