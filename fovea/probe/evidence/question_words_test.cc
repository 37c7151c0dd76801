#include "fovea/probe/evidence/question_words.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace fovea::probe {
namespace question_words_test {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

using Documents = std::vector<engine::Document>;

std::vector<std::string> texts(const std::vector<EvidenceSpan>& spans) {
  std::vector<std::string> out;
  for (const EvidenceSpan& span : spans) out.push_back(span.text);
  return out;
}

TEST(QuestionWords, RareWordsCountForMoreThanThoseThatAllParagraphsHave) {
  const Documents documents = {{"a", "The ship sails.\n\nThe cat and the dog.\n\nThe harbour of the\nnorth.\n"}};
  const auto spans = spans_by_words(documents, "Where is the harbour?", 2);
  EXPECT_THAT(texts(spans), ElementsAre("The harbour of the\nnorth.", "The cat and the dog."));
  EXPECT_EQ(spans[0].line_start, 5);
  EXPECT_EQ(spans[0].line_end, 6);
  EXPECT_EQ(documents[0].text.substr(spans[0].begin, spans[0].end - spans[0].begin), spans[0].text);
}

TEST(QuestionWords, EndingsDoNotCount) {
  const Documents documents = {{"a", "It was licensed.\n\nNothing else.\n"}, {"b", "Licensing terms\n"}};
  const auto spans = spans_by_words(documents, "Which LICENSES?", 5);
  EXPECT_THAT(texts(spans), ElementsAre("Licensing terms", "It was licensed."));
  EXPECT_EQ(spans[0].document, 1);
}

TEST(QuestionWords, ALongParagraphIsCutBetweenLines) {
  const std::string filler(395, 'x');
  const Documents documents = {{"a", filler + "\n" + filler + "\nthe harbour\n"}};
  EXPECT_THAT(texts(spans_by_words(documents, "harbour", 5)), ElementsAre("the harbour"));
}

TEST(QuestionWords, ATextWithoutThemGivesNone) {
  const Documents documents = {{"a", "one\n"}, {"b", "\n\n"}};
  EXPECT_THAT(spans_by_words(documents, "harbour", 5), IsEmpty());
  EXPECT_THAT(spans_by_words(documents, "", 5), IsEmpty());
  EXPECT_THAT(spans_by_words({}, "one", 5), IsEmpty());
}

}  // namespace question_words_test
}  // namespace fovea::probe
