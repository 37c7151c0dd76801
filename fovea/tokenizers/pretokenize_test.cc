#include "fovea/tokenizers/pretokenize.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "fovea/base/file.h"
#include "fovea/base/random.h"
#include "fovea/base/testing/paths.h"
#include "fovea/base/testing/sanitized.h"
#include "fovea/tokenizers/testing/slow_tokenizer.h"
#include "fovea/tokenizers/utf8.h"

namespace fovea::tokenizers {
namespace pretokenize_test {

using ::testing::ElementsAre;

using Words = std::vector<std::string_view>;

Words scan(const SplitRule& rule, std::string_view text) {
  Words out;
  for (const char *p = text.data(), *end = p + text.size(); p < end;) {
    const char* q = rule.word_end(p, end);
    out.emplace_back(p, static_cast<size_t>(q - p));
    p = q;
  }
  return out;
}

// All steps of a pre-tokenizer, as they run.
class Collector final : public Flow {
 public:
  explicit Collector(const PreTokenizer& pre) {
    for (const std::string_view rule : pre.rules) steps_.push_back(std::move(make_rule(rule)).value());
  }
  void run(size_t step, const Piece& piece) override {
    if (step < steps_.size()) return steps_[step]->split(piece, *this, step + 1);
    words.push_back(piece.text);
  }
  void fail(Error error) override { ADD_FAILURE() << error.message; }
  Words words;

 private:
  std::vector<SplitStepPtr> steps_;
};

Words words(std::string_view name, std::string_view text) {
  Collector out(*find_pre_tokenizer(name));
  const Frame whole;
  if (!text.empty()) out.run(0, {text, &whole, 0, true});
  return out.words;
}

// The first text of `texts` that scanner and expression cut differently.
void expect_equal(const std::vector<std::string>& texts) {
  for (const SplitRule& rule : scanned_rules()) {
    const auto slow = slow_rules({rule.expression});
    ASSERT_TRUE(slow.has_value()) << slow.error().message;
    for (const std::string& text : texts) {
      const auto expected = slow_words(*slow, text);
      ASSERT_TRUE(expected.has_value()) << expected.error().message;
      // Views: of the same bytes of the same text, but for texts that are not UTF-8, of which PCRE2 sees a copy.
      ASSERT_EQ(scan(rule, text), *expected) << rule.expression << ": " << testing::PrintToString(text.substr(0, 200));
    }
  }
}

TEST(PreTokenizer, CutsAsThePublishedRulesSay) {
  const std::string_view text = "it's 12345  IT'S\n\n  x = y;\t\n";
  EXPECT_THAT(words("gpt-2", text),
              ElementsAre("it", "'s", " 12345", " ", " IT", "'", "S", "\n\n ", " x", " =", " y", ";", "\t\n"));
  EXPECT_THAT(words("smollm", text), ElementsAre("it", "'s", " ", "1", "2", "3", "4", "5", " ", " IT", "'", "S",
                                                 "\n\n ", " x", " =", " y", ";", "\t\n"));
  EXPECT_THAT(words("qwen2", text), ElementsAre("it", "'s", " ", "1", "2", "3", "4", "5", " ", " IT", "'S", "\n\n", " ",
                                                " x", " =", " y", ";", "\t\n"));
  EXPECT_THAT(words("llama-bpe", text),
              ElementsAre("it", "'s", " ", "123", "45", " ", " IT", "'S", "\n\n", " ", " x", " =", " y", ";", "\t\n"));
}

TEST(PreTokenizer, WhiteSpaceBeforeADigitStaysTogetherWhereDigitsAreCutFirst) {
  EXPECT_THAT(words("smollm", "a   1"), ElementsAre("a", "   ", "1"));
  EXPECT_THAT(words("gpt-2", "a   1"), ElementsAre("a", "  ", " 1"));
}

TEST(PreTokenizer, IsNamedOrUnknown) {
  EXPECT_EQ(find_pre_tokenizer("smollm")->names[0], "smollm");
  EXPECT_EQ(find_pre_tokenizer("phi-2"), find_pre_tokenizer("gpt-2"));
  EXPECT_EQ(find_pre_tokenizer("smollm2"), nullptr);
  EXPECT_EQ(find_pre_tokenizer(""), nullptr);
}

TEST(PreTokenizer, ScannersEqualTheExpressionsOnEveryCharacter) {
  std::vector<std::string> texts;
  for (const auto& [range, step] : {std::pair<std::pair<uint32_t, uint32_t>, uint32_t>{{1, 0xD7FF}, 1},
                                    {{0xE000, 0xFFFF}, 1},
                                    {{0x10000, 0x10FFFF}, 16}}) {
    for (uint32_t c = range.first; c <= range.second; c += step * every(11)) {
      std::string s;
      append_utf8(s, c);
      texts.push_back("a" + s + "b " + s + " '" + s + "S1" + s + "\n" + s + s + "  " + s);
    }
  }
  for (const SplitRule& rule : scanned_rules()) {
    const auto slow = slow_rules({rule.expression});
    ASSERT_TRUE(slow.has_value()) << slow.error().message;
    const auto differs = [&](const std::string& text) {
      const auto expected = slow_words(*slow, text);
      EXPECT_TRUE(expected.has_value()) << expected.error().message;
      return scan(rule, text) != *expected;
    };
    size_t different = 0;
    constexpr size_t kTogether = 64;  // texts in one: alone a call takes longer than its text
    for (size_t first = 0; first < texts.size(); first += kTogether) {
      const std::span group = std::span(texts).subspan(first, std::min(kTogether, texts.size() - first));
      std::string together;
      for (const std::string& text : group) together += text;
      if (differs(together)) different += static_cast<size_t>(std::ranges::count_if(group, differs));
    }
    // The libraries know different versions of Unicode: of these texts, 276 have a letter or number of
    // version 15 (utf8proc 2.8) that 14 (PCRE2 10.42) does not know. Other releases differ by about as many.
    EXPECT_LE(different, 700u) << rule.expression;
  }
}

TEST(PreTokenizer, ScannersEqualTheExpressionsOnRandomText) {
  const std::vector<std::string> pool = {" ",
                                         "  ",
                                         "\n",
                                         "\r\n",
                                         "\t",
                                         "a",
                                         "B",
                                         "'s",
                                         "'LL",
                                         "'re",
                                         "'",
                                         "1",
                                         "23",
                                         "\xC3\xA9",
                                         "e\xCC\x81",
                                         "\xE2\x80\x8B",
                                         "aB",
                                         "Bc",
                                         "\xC7\x85",
                                         "/",
                                         "\xCA\xB0",
                                         "\xF0\x9F\x99\x82",
                                         "\xE4\xB8\xAD",
                                         "\xC5\xBF",
                                         "'\xC5\xBF",
                                         "\xC2\xA0",
                                         "\xC2\x85",
                                         "\xE1\xA0\x8E",
                                         "\xE3\x80\x80",
                                         "!",
                                         "_",
                                         "\xD8\xA7",
                                         "\xC2\xBD",
                                         std::string(1, '\0'),
                                         "\xEF\xBB\xBF",
                                         "\x80",
                                         "\xC3",
                                         "\xF0\x9F",
                                         "\xED\xA0\x80",
                                         "\xFF"};
  Rng random(7);
  std::vector<std::string> texts;
  for (int i = 0; i < 2000; ++i) {
    std::string text;
    for (uint64_t n = random.below(40); n > 0; --n) text += pool[random.below(pool.size())];
    texts.push_back(std::move(text));
  }
  for (int i = 0; i < 500; ++i) {
    std::string text;
    for (uint64_t n = random.below(60); n > 0; --n) text += static_cast<char>(random.below(256));
    texts.push_back(std::move(text));
  }
  expect_equal(texts);
}

TEST(PreTokenizer, ScannersEqualTheExpressionsOnRealText) {
  std::vector<std::string> texts;
  for (const char* name :
       {"/tests/golden/tokens/mixed.txt", "/fovea/tokenizers/pretokenize.cc", "/docs/rooms.md", "/tests/cli_test.cc"}) {
    texts.push_back(read_file(source_dir() + std::string(name)).value());
  }
  expect_equal(texts);
}

TEST(PreTokenizer, T2_LongRunsAreCutInLinearTime) {
  const auto repeated = [](std::string_view s) {
    std::string text;
    while (text.size() < (1 << 18)) text += s;
    return text;
  };
  std::vector<std::string> texts;
  for (const char* s :
       {"a", " ", "\n", " \n", "1", "!", "'", "\xF0\x9F\x99\x82", "e\xCC\x81", "\xCC\x81", "\x80", " a", "\t\t ", "'l"})
    texts.push_back(repeated(s));
  expect_equal(texts);
}

// What `tokenizers` cuts; see tools/make_tokenizer_goldens.py.
TEST(PreTokenizer, CutsAsTheReferenceDoes) {
  std::ifstream in(source_dir() + "/tests/golden/tokens/splits.json");
  const auto golden = nlohmann::json::parse(in);
  const std::string text = read_file(source_dir() + "/tests/golden/tokens/mixed.txt").value();
  std::vector<std::string> lines = {""};  // blocks of ten
  size_t n_lines = 0;
  for (const char c : text) {
    if (c == '\n' && ++n_lines % 10 == 0) {
      lines.emplace_back();
    } else {
      lines.back() += c;
    }
  }
  for (const PreTokenizer& pre : pre_tokenizers()) {
    const auto& counts = golden.at(std::string(pre.names[0]));
    ASSERT_EQ(counts.size(), lines.size());
    for (size_t i = 0; i < lines.size(); ++i) {
      // Number of words, and a sum in which each place of a cut has its own weight.
      uint64_t sum = 0;
      const Words cut = words(pre.names[0], lines[i]);
      for (const std::string_view word : cut) {
        const auto end = static_cast<size_t>(word.data() + word.size() - lines[i].data());
        sum += (end + 1) * (end + 1) * (end + 7);
      }
      ASSERT_EQ(counts[i], (std::vector<uint64_t>{cut.size(), sum % 65521})) << pre.names[0] << ": " << lines[i];
    }
  }
}

}  // namespace pretokenize_test
}  // namespace fovea::tokenizers
