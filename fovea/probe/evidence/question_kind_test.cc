#include "fovea/probe/evidence/question_kind.h"

#include <gtest/gtest.h>

namespace fovea::probe {
namespace question_kind_test {

TEST(QuestionKind, GoesByTheWordsThatAQuestionBeginsWith) {
  EXPECT_EQ(kind_of("Why must tests not reboot?"), QuestionKind::kWhy);
  EXPECT_EQ(kind_of("For what reason is it so?"), QuestionKind::kWhy);
  EXPECT_EQ(kind_of("Does the wildcard match?"), QuestionKind::kWhether);
  EXPECT_EQ(kind_of("  \"May\" he stay?"), QuestionKind::kWhether);
  EXPECT_EQ(kind_of("When may it be used?"), QuestionKind::kWhen);
  EXPECT_EQ(kind_of("Under what condition may it be used?"), QuestionKind::kWhen);
  EXPECT_EQ(kind_of("Who wrote it?"), QuestionKind::kWho);
  EXPECT_EQ(kind_of("What is it?"), QuestionKind::kOther);
}

TEST(QuestionKind, ANumberMayBeAskedForAnywhere) {
  EXPECT_EQ(kind_of("How many days are there?"), QuestionKind::kNumber);
  EXPECT_EQ(kind_of("Within how many days must it be done?"), QuestionKind::kNumber);
}

TEST(QuestionKind, AWordMustBeAWhole) {
  EXPECT_EQ(kind_of("Isolation of what?"), QuestionKind::kOther);
  EXPECT_EQ(kind_of("Whoever?"), QuestionKind::kOther);
  EXPECT_EQ(kind_of(""), QuestionKind::kOther);
}

TEST(QuestionKind, OnlyWhetherIsAskedWithAWordOnTheForm) {
  EXPECT_EQ(look_question("Why?"), "Why?");
  EXPECT_TRUE(look_question("Is it?").starts_with("Is it? Answer yes or no"));
}

}  // namespace question_kind_test
}  // namespace fovea::probe
