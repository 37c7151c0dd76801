#include "fovea/probe/evidence/look_choice.h"

#include <gtest/gtest.h>

namespace fovea::probe {
namespace look_choice_test {

Look look_of(View view, const std::string& answer, double within, double without) {
  Look look;
  look.view = view, look.answer = answer, look.tokens = {1};
  look.within = within, look.without = without;
  return look;
}

Looked looked_of(const Look& whole, const Look& passage) {
  Looked looked;
  looked.looks = {whole, passage};
  choose(looked, QuestionKind::kOther);
  return looked;
}

TEST(LookChoice, AnAnswerThatSaysNoMoreThanTheOtherIsTheSame) {
  EXPECT_TRUE(same_answer("Three years.", "three  years"));
  EXPECT_TRUE(same_answer("It must be valid for three years.", "three years"));
  EXPECT_FALSE(same_answer("10 years", "three years"));
  EXPECT_FALSE(same_answer("", "three years"));
}

TEST(LookChoice, TheAnswerThatThePassageMakesLikelierIsGiven) {
  const Looked mended =
      looked_of(look_of(View::kWhole, "10 years", -2, -3), look_of(View::kPassage, "three", -0.1, -3));
  EXPECT_EQ(mended.chosen, 1u);
  EXPECT_TRUE(mended.disagree);
  const Looked kept = looked_of(look_of(View::kWhole, "10 years", -0.1, -3), look_of(View::kPassage, "three", -2, -3));
  EXPECT_EQ(kept.chosen, 0u);
  EXPECT_TRUE(kept.disagree);
}

TEST(LookChoice, WhatIsSaidWithoutReadingCountsLess) {
  const Looked looked =
      looked_of(look_of(View::kWhole, "10 years", -0.5, -4), look_of(View::kPassage, "yes", -0.4, -0.1));
  EXPECT_EQ(looked.chosen, 0u);
}

TEST(LookChoice, TheSameAnswerStaysAsTheWholeTextGaveIt) {
  const Looked looked = looked_of(look_of(View::kWhole, "It is valid for three years.", -2, -3),
                                  look_of(View::kPassage, "three years", -0.1, -3));
  EXPECT_EQ(looked.chosen, 0u);
  EXPECT_FALSE(looked.disagree);
}

TEST(LookChoice, AnAnswerThatThePassageMakesNoLikelierIsNotSupported) {
  const Look said = look_of(View::kPassage, "Paris", -0.4, -0.3), read = look_of(View::kPassage, "three", -0.2, -2);
  const Look whole = look_of(View::kWhole, "Rome", -3, -3);
  EXPECT_FALSE(looked_of(whole, said).supported);
  EXPECT_TRUE(looked_of(whole, read).supported);
  Looked whether;
  whether.looks = {look_of(View::kWhole, "Yes", -0.3, -0.4), look_of(View::kPassage, "No", -0.2, -0.3)};
  choose(whether, QuestionKind::kWhether);
  EXPECT_TRUE(whether.supported);
}

TEST(LookChoice, OneLookAloneIsTheAnswer) {
  Looked looked;
  looked.looks = {look_of(View::kWhole, "a", 0, 0)};
  choose(looked, QuestionKind::kOther);
  EXPECT_EQ(looked.chosen, 0u);
  EXPECT_TRUE(looked.supported);
  EXPECT_FALSE(looked.disagree);
}

}  // namespace look_choice_test
}  // namespace fovea::probe
