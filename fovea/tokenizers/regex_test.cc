#include "fovea/tokenizers/regex.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace fovea::tokenizers {
namespace regex_test {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<std::string> matches(std::string_view expression, std::string_view text) {
  const auto regex = Regex::create(expression);
  EXPECT_TRUE(regex.has_value()) << regex.error().message;
  std::vector<std::string> out;
  if (!regex) return out;
  Regex::Matches all(*regex, text);
  for (size_t begin = 0, end = 0; all.next(begin, end);) out.emplace_back(text.substr(begin, end - begin));
  EXPECT_TRUE(all.status().has_value()) << all.status().error().message;
  return out;
}

TEST(Regex, ReadsWhatOnigurumaReadsOtherwiseThanPcre2) {
  EXPECT_THAT(matches("\\h+", "beef xyz 09"), ElementsAre("beef", "09"));               // hexadecimal digits
  EXPECT_THAT(matches("a$", "a\nba"), ElementsAre("a", "a"));                           // the end of each line
  EXPECT_THAT(matches("(?m)a.b", "a\nb"), ElementsAre("a\nb"));                         // "." also takes new lines
  EXPECT_THAT(matches("\\p{N}{1,3}+", "1234567"), ElementsAre("1234567"));              // a group of groups
  EXPECT_THAT(matches("\\w+", "a\xC2\xBD_e\xCC\x81"), ElementsAre("a", "_e\xCC\x81"));  // marks, no fractions
  EXPECT_THAT(matches("\\s+",
                      "a \xE1\xA0\x8E\xE3\x80\x80"
                      "b"),
              ElementsAre(" ", "\xE3\x80\x80"));
  EXPECT_THAT(matches("[a[bc]]+", "xabcx"), ElementsAre("abc"));
  EXPECT_THAT(matches("[\\s\\d]+", "a 1\n2b"), ElementsAre(" 1\n2"));
  EXPECT_THAT(matches("\\p{^L}+|\\p{Alpha}", "a1"), ElementsAre("a", "1"));
  EXPECT_THAT(matches("a{,2}b", "aaab"), ElementsAre("aab"));
}

TEST(Regex, EmptyMatchesAreFoundOnceAndMoveOn) {
  EXPECT_EQ(matches("x*", "axb").size(), 3u);  // before a, x, and at the end; not again behind x
  EXPECT_EQ(matches("(?=(\\d{3})+(?!\\d))", "1234567").size(), 2u);
  EXPECT_EQ(matches("", "\xC3\xA9").size(), 2u);
}

TEST(Regex, BytesThatAreNoTextAreSymbols) {
  EXPECT_THAT(matches("[^\\s\\p{L}]+", "a\xFF\x80 b"), ElementsAre("\xFF\x80"));
  EXPECT_THAT(matches("\\p{L}+", std::string_view("a\0b", 3)), ElementsAre("a", "b"));
}

TEST(Regex, WhatItCannotReadIsRefusedWithItsPlace) {
  for (const auto& [expression, what] : {std::pair<std::string, std::string>{"[a&&b]", "intersection"},
                                         {"[a[^b]]", "complement inside"},
                                         {"a[b", "without a ]"},
                                         {"(a", "cannot be used"},
                                         {"a)", "without a ("},
                                         {"(?~a)", "absent"},
                                         {"\\p{Nothing}", "cannot be used"},
                                         {"a\\", "\\ at its end"},
                                         {"(?y{g}a)", "cannot be used"},
                                         {"[\\W]", "inside a set"}}) {
    const auto regex = Regex::create(expression);
    ASSERT_FALSE(regex.has_value()) << expression;
    EXPECT_EQ(regex.error().code, ErrorCode::kUnsupported) << expression;
    EXPECT_THAT(regex.error().message, HasSubstr(what)) << expression;
  }
  EXPECT_EQ(Regex::create(std::string(100'000, 'a')).error().code, ErrorCode::kLimit);
  EXPECT_EQ(Regex::create(std::string_view("a\0b", 3)).error().code, ErrorCode::kData);
}

TEST(Regex, MatchesOfSeveralTextsDoNotMeet) {
  const auto words = Regex::create("[a-z]+"), letters = Regex::create("[b-y]");
  ASSERT_TRUE(words && letters);
  const std::string text = "abc xyz";
  for (int again = 0; again < 2; ++again) {
    std::string seen;
    Regex::Matches outer(*words, text);
    for (size_t begin = 0, end = 0; outer.next(begin, end);) {
      const std::string_view word = std::string_view(text).substr(begin, end - begin);
      Regex::Matches inner(*letters, word);
      for (size_t from = 0, to = 0; inner.next(from, to);) seen += std::string(word.substr(from, to - from)) + ",";
    }
    EXPECT_EQ(seen, "b,c,x,y,");
  }
}

TEST(Regex, T8_HostileExpressionsEndInBoundedTime) {
  const std::string text(200'000, 'a');
  for (const char* expression :
       {"(a+)+[bc]", "(a|aa)+[bc]", "(a*)*[bc]", "a*a*a*a*a*a*[bc]", "(?:(?:a{1,50}){1,50}){1,50}[bc]"}) {
    const auto regex = Regex::create(expression);
    if (!regex) continue;  // too large to be compiled
    const auto start = std::chrono::steady_clock::now();
    Regex::Matches all(*regex, text);
    for (size_t begin = 0, end = 0; all.next(begin, end);) {
    }
    EXPECT_FALSE(all.status().has_value()) << expression;
    if (!all.status()) {
      EXPECT_EQ(all.status().error().code, ErrorCode::kLimit);
    }
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(60)) << expression;
  }
}

}  // namespace regex_test
}  // namespace fovea::tokenizers
