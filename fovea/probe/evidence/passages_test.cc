#include "fovea/probe/evidence/passages.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace fovea::probe {
namespace passages_test {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

using Documents = std::vector<engine::Document>;

// A prompt in which each character of the documents is a token.
engine::DocumentPrompt prompt_of(const Documents& documents) {
  engine::DocumentPrompt prompt;
  for (size_t d = 0; d < documents.size(); ++d) {
    for (uint32_t i = 0; i < documents[d].text.size(); ++i) {
      prompt.tokens.push_back(documents[d].text[i]);
      prompt.places.push_back({static_cast<int32_t>(d), i, i + 1});
    }
  }
  return prompt;
}

EvidenceSpan span_of(const Documents& documents, int32_t document, const std::string& words, double score) {
  const size_t begin = documents[static_cast<size_t>(document)].text.find(words);
  EXPECT_NE(begin, std::string::npos) << words;
  return {document, 0, 0, words, score, begin, begin + words.size()};
}

std::vector<std::string> texts(const Documents& documents, const std::vector<Passage>& passages) {
  std::vector<std::string> out;
  for (const Passage& p : passages)
    out.push_back(documents[static_cast<size_t>(p.document)].text.substr(p.begin, p.end - p.begin));
  return out;
}

// Nothing is taken in for its shortness alone.
constexpr PassageOptions kParagraphs{
    .max_tokens = 600, .most_tokens = 20, .least_tokens = 0, .besides = 0, .max_passages = 6};

TEST(Passages, AreTheParagraphsOfTheEvidenceInTheOrderOfTheText) {
  const Documents documents = {{"a", "one\ntwo\n\nthree\nfour\nfive\n\nsix\n"}};
  const std::vector<EvidenceSpan> spans = {span_of(documents, 0, "four", 0.5), span_of(documents, 0, "one", 0.2)};
  const auto passages = passages_of(documents, prompt_of(documents), spans, kParagraphs);
  EXPECT_THAT(texts(documents, passages), ElementsAre("one\ntwo", "three\nfour\nfive"));
  EXPECT_EQ(passages[0].line_start, 1);
  EXPECT_EQ(passages[0].line_end, 2);
  EXPECT_EQ(passages[1].line_start, 4);
  EXPECT_EQ(passages[1].line_end, 6);
  EXPECT_EQ(passages[1].n_tokens, 15u);
  EXPECT_EQ(passages[1].score, 0.5);
}

TEST(Passages, WhatIsShortTakesInWhatStandsBesideIt) {
  const Documents documents = {{"a", "Terms\n\nThree years.\n\nNo fee.\n\nThe end of all this.\n"}};
  PassageOptions options = kParagraphs;
  options.least_tokens = 24, options.most_tokens = 40;
  const std::vector<EvidenceSpan> spans = {span_of(documents, 0, "Three years.", 0.5)};
  EXPECT_THAT(texts(documents, passages_of(documents, prompt_of(documents), spans, options)),
              ElementsAre("Terms\n\nThree years.\n\nNo fee."));
}

TEST(Passages, ALongParagraphIsCutAtLinesAroundTheEvidence) {
  const Documents documents = {{"a", "aaaa\nbbbb\ncccc\ndddd\neeee\n"}};
  PassageOptions options = kParagraphs;
  options.most_tokens = 14;
  const std::vector<EvidenceSpan> spans = {span_of(documents, 0, "cc", 0.5)};
  EXPECT_THAT(texts(documents, passages_of(documents, prompt_of(documents), spans, options)),
              ElementsAre("bbbb\ncccc\ndddd"));
}

TEST(Passages, OfALineThatIsLongerThanAPassageTheEvidenceAloneIsTaken) {
  const Documents documents = {{"a", std::string(200, 'x') + " The fee. " + std::string(200, 'y') + "\n"}};
  const std::vector<EvidenceSpan> spans = {span_of(documents, 0, "The fee.", 0.5)};
  EXPECT_THAT(texts(documents, passages_of(documents, prompt_of(documents), spans, kParagraphs)),
              ElementsAre("The fee."));
}

TEST(Passages, ThatMeetAreOneWhereOneMayBeSoLong) {
  const Documents documents = {{"a", "one\n\ntwo\n\nthree\n"}};
  const std::vector<EvidenceSpan> spans = {span_of(documents, 0, "two", 0.5), span_of(documents, 0, "one", 0.25)};
  const auto passages = passages_of(documents, prompt_of(documents), spans, kParagraphs);
  EXPECT_THAT(texts(documents, passages), ElementsAre("one\n\ntwo"));
  EXPECT_EQ(passages[0].score, 0.75);
  PassageOptions shorter = kParagraphs;
  shorter.most_tokens = 7;
  EXPECT_THAT(texts(documents, passages_of(documents, prompt_of(documents), spans, shorter)),
              ElementsAre("one", "two"));
}

TEST(Passages, NeverShareALine) {
  const Documents documents = {{"a", "aaaa\nbbbb\ncccc\ndddd\neeee\n"}};
  PassageOptions options = kParagraphs;
  options.most_tokens = 14;
  const std::vector<EvidenceSpan> spans = {span_of(documents, 0, "cccc", 0.5),
                                           span_of(documents, 0, "dddd\neeee", 0.3)};
  EXPECT_THAT(texts(documents, passages_of(documents, prompt_of(documents), spans, options)),
              ElementsAre("bbbb\ncccc\ndddd", "eeee"));
}

TEST(Passages, AreNoMoreThanMayBeReadTheBestFirst) {
  const Documents documents = {{"a", "aaaaaaaa\n\nbbbbbbbb\n\ncccccccc\n\ndddddddd\n"}};
  const std::vector<EvidenceSpan> spans = {span_of(documents, 0, "dddddddd", 0.5),
                                           span_of(documents, 0, "aaaaaaaa", 0.3),
                                           span_of(documents, 0, "cccccccc", 0.2)};
  PassageOptions options = kParagraphs;
  options.max_tokens = 16;
  EXPECT_THAT(texts(documents, passages_of(documents, prompt_of(documents), spans, options)),
              ElementsAre("aaaaaaaa", "dddddddd"));
  options.besides = 1;
  EXPECT_THAT(texts(documents, passages_of(documents, prompt_of(documents), spans, options)), ElementsAre("dddddddd"));
  options.besides = 0;
  options.max_passages = 1;
  EXPECT_THAT(texts(documents, passages_of(documents, prompt_of(documents), spans, options)), ElementsAre("dddddddd"));
  options.max_tokens = 7;
  EXPECT_THAT(passages_of(documents, prompt_of(documents), spans, options), IsEmpty());
}

TEST(Passages, OfSeveralDocumentsStayApart) {
  const Documents documents = {{"a", "one\n"}, {"b", "one\ntwo\n"}};
  const std::vector<EvidenceSpan> spans = {span_of(documents, 1, "two", 0.5), span_of(documents, 0, "one", 0.2)};
  const auto passages = passages_of(documents, prompt_of(documents), spans, kParagraphs);
  ASSERT_THAT(passages, SizeIs(2));
  EXPECT_EQ(passages[0].document, 0);
  EXPECT_EQ(passages[1].document, 1);
  EXPECT_THAT(texts(documents, passages), ElementsAre("one", "one\ntwo"));
  EXPECT_EQ(passages[1].line_end, 2);
}

}  // namespace passages_test
}  // namespace fovea::probe
