#include "fovea/probe/evidence/look_choice.h"

#include <gtest/gtest.h>

namespace fovea::probe {
namespace look_choice_test {

TEST(LookChoice, AnAnswerThatSaysNoMoreThanTheOtherIsTheSame) {
  EXPECT_TRUE(same_answer("Three years.", "three  years"));
  EXPECT_TRUE(same_answer("It must be valid for three years.", "three years"));
  EXPECT_FALSE(same_answer("10 years", "three years"));
  EXPECT_FALSE(same_answer("", "three years"));
}

}  // namespace look_choice_test
}  // namespace fovea::probe
