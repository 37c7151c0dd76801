#include "fovea/tasks/haystack.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cctype>
#include <set>

#include "fovea/tasks/words.h"

namespace fovea::tasks {
namespace haystack_test {

using ::testing::ElementsAre;

TEST(Prose, VariesAndSaysNothingOfNumbers) {
  Prose prose(1);
  std::set<std::string> seen;
  for (int i = 0; i < 2000; ++i) {
    const std::string sentence = prose.next();
    EXPECT_TRUE(sentence[0] == ' ' || sentence[0] == '\n');
    EXPECT_EQ(sentence.back(), '.');
    for (const char c : sentence) EXPECT_FALSE(std::isdigit(static_cast<unsigned char>(c))) << sentence;
    seen.insert(sentence.substr(1));
  }
  EXPECT_GT(seen.size(), 1980u);
  EXPECT_NE(Prose(1).next(), Prose(2).next());
}

TEST(Sentences, EndWithTheirMarksAndKeepEveryByte) {
  EXPECT_THAT(split_sentences("A cat. Is it?  Yes, 1.5 of it\n"),
              ElementsAre("A cat.", " Is it?", "  Yes, 1.5 of it\n"));
  std::string table;
  for (int i = 0; i < 300; ++i) table += "word ";
  std::string joined;
  for (const auto part : split_sentences(table)) {
    EXPECT_LE(part.size(), 410u);
    joined += part;
  }
  EXPECT_EQ(joined, table);
}

TEST(Haystack, GivesEverySentenceOnceThenProse) {
  const std::vector<engine::Document> texts = {{"a", "First one. Second one."}, {"b", "Third one."}};
  Haystack hay(texts, 3);
  std::multiset<std::string> given;
  for (int i = 0; i < 3; ++i) {
    const std::string sentence = hay.next();
    given.insert(sentence.substr(sentence.find_first_not_of(" \n")));
  }
  EXPECT_THAT(given, ElementsAre("First one.", "Second one.", "Third one."));
  EXPECT_EQ(hay.next().find("one."), std::string::npos);
}

TEST(Words, AreDifferentAndAsManyAsAskedFor) {
  Rng rng(5);
  const auto keys = draw_keys(50, rng), numbers = draw_numbers(50, 5, rng);
  EXPECT_EQ(std::set<std::string>(keys.begin(), keys.end()).size(), 50u);
  EXPECT_EQ(std::set<std::string>(numbers.begin(), numbers.end()).size(), 50u);
  for (const std::string& number : numbers) EXPECT_TRUE(number.size() == 5 && number[0] != '0') << number;
  std::set<std::string> both(nouns().begin(), nouns().end());
  both.insert(adjectives().begin(), adjectives().end());
  EXPECT_EQ(both.size(), nouns().size() + adjectives().size());
}

}  // namespace haystack_test
}  // namespace fovea::tasks
