#include "fovea/tokenizers/translate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "fovea/tokenizers/base64.h"
#include "fovea/tokenizers/byte_letters.h"
#include "fovea/tokenizers/pretokenize.h"
#include "fovea/tokenizers/tokenizer.h"

namespace fovea::tokenizers {
namespace translate_test {

using ::testing::HasSubstr;
using Json = nlohmann::ordered_json;

const std::string kMark = "\xE2\x96\x81";

Vocabulary files_of(const std::string& tokenizer_json) {
  Vocabulary v;
  v.name = "a test", v.kind = "files", v.files.tokenizer_json = tokenizer_json;
  return v;
}
std::vector<int32_t> ids(const Vocabulary& v, std::string_view text) {
  const auto tokenizer = Tokenizer::create(v);
  EXPECT_TRUE(tokenizer.has_value()) << tokenizer.error().message;
  return tokenizer ? (*tokenizer)->encode(text).value() : std::vector<int32_t>();
}

// A list of GGUF as tokenizer.json and as a list again: the same lists, the same ids.
void expect_round_trip(const GgufLists& lists, std::string_view text) {
  const Vocabulary v = lists.view("a test");
  const auto json = tokenizer_json_of(v);
  ASSERT_TRUE(json.has_value()) << json.error().message;
  EXPECT_EQ(ids(files_of(*json), text), ids(v, text));
  const auto again = gguf_lists(files_of(*json), lists.tokens.size());
  ASSERT_TRUE(again.has_value()) << again.error().message;
  EXPECT_EQ(again->kind, lists.kind);
  EXPECT_EQ(again->tokens, lists.tokens);
  EXPECT_EQ(again->types, lists.types);
  EXPECT_EQ(again->merges, lists.merges);
  EXPECT_EQ(ids(again->view("a test"), text), ids(v, text));
}

GgufLists scored(const std::string& kind) {
  GgufLists lists;
  lists.kind = kind;
  lists.tokens = {"<unk>", "<s>", "</s>"};
  lists.types = {TokenType::kUnknown, TokenType::kControl, TokenType::kControl};
  for (int byte = 0; byte < 256; ++byte) {
    lists.tokens.push_back(fmt::format("<0x{:02X}>", byte));
    lists.types.push_back(TokenType::kByte);
  }
  lists.scores.assign(lists.tokens.size(), 0);
  float score = -1;
  for (const std::string& token : {std::string("ab"), kMark + "ab", std::string("abc"), std::string("a"),
                                   std::string("b"), std::string("c"), kMark}) {
    lists.tokens.push_back(token), lists.types.push_back(TokenType::kNormal), lists.scores.push_back(score--);
  }
  lists.unknown = 0, lists.bos = 1, lists.eos = 2;
  return lists;
}

TEST(Translate, SentencePieceAndUnigramGoThereAndBack) {
  for (const char* kind : {"llama", "t5"}) {
    GgufLists lists = scored(kind);
    lists.add_bos = lists.kind == "llama", lists.add_eos = lists.kind == "t5";
    expect_round_trip(lists, "abc ab  cab \xC3\xA9");
  }
}

TEST(Translate, WordPieceGoesThereAndBack) {
  GgufLists lists;
  lists.kind = "bert";
  lists.tokens = {"[UNK]", "[CLS]", "[SEP]", kMark + "ab", "c", kMark + "c", kMark + "."};
  lists.types.assign(7, TokenType::kNormal);
  for (size_t i = 0; i < 3; ++i) lists.types[i] = TokenType::kControl;
  lists.unknown = 0, lists.bos = 1, lists.separator = 2, lists.add_bos = true;
  expect_round_trip(lists, "abc AB. c x");
}

TEST(Translate, IdsWithoutATokenAreFilledUpAndTooManyTokensRefused) {
  const auto json = tokenizer_json_of(scored("llama").view("a test"));
  ASSERT_TRUE(json.has_value()) << json.error().message;
  const auto more = gguf_lists(files_of(*json), 300);
  ASSERT_TRUE(more.has_value()) << more.error().message;
  EXPECT_EQ(more->tokens.size(), 300u);
  EXPECT_EQ(more->tokens[299], "[PAD299]");
  EXPECT_EQ(more->types[299], TokenType::kUnused);
  const auto few = gguf_lists(files_of(*json), 20);
  ASSERT_FALSE(few.has_value());
  EXPECT_THAT(few.error().message, HasSubstr("266 tokens"));
}

TEST(Translate, WhatGgufCannotSayIsRefused) {
  Json model = Json::parse(tokenizer_json_of(scored("llama").view("a test")).value());
  model["normalizer"] = {{"type", "Sequence"}, {"normalizers", {{{"type", "Lowercase"}}, model["normalizer"]}}};
  const auto lower = gguf_lists(files_of(model.dump()), 266);
  ASSERT_FALSE(lower.has_value());
  EXPECT_EQ(lower.error().code, ErrorCode::kUnsupported);
  EXPECT_THAT(lower.error().message, HasSubstr("normalises"));
}

// Every pair of some letters is a token, so that every cut shows.
GgufLists byte_level(const std::string& rule) {
  GgufLists lists;
  lists.kind = "gpt2", lists.pre = rule;
  const auto spelt = [](char byte) {
    std::string letter;
    append_spelling(std::string_view(&byte, 1), letter);
    return letter;
  };
  for (int byte = 0; byte < 256; ++byte) lists.tokens.push_back(spelt(static_cast<char>(byte)));
  const std::string letters = "ab1' .\nxX";
  for (const char one : letters) {
    for (const char two : letters) {
      const std::string a = spelt(one), b = spelt(two);
      lists.tokens.push_back(a + b), lists.merges.push_back(a + " " + b);
    }
  }
  lists.types.assign(lists.tokens.size(), TokenType::kNormal);
  return lists;
}

TEST(Translate, ARuleIsFoundByItsExpressionAndAForeignOneRefused) {
  for (const char* rule : {"gpt-2", "llama-bpe", "qwen2", "smollm", "starcoder"}) {
    const GgufLists lists = byte_level(rule);
    const auto json = tokenizer_json_of(lists.view("a test"));
    ASSERT_TRUE(json.has_value()) << json.error().message;
    const auto again = gguf_lists(files_of(*json), lists.tokens.size());
    ASSERT_TRUE(again.has_value()) << again.error().message;
    EXPECT_EQ(find_pre_tokenizer(again->pre)->rules, find_pre_tokenizer(rule)->rules);
  }
  const auto json = tokenizer_json_of(byte_level("gpt-2").view("a test"));
  ASSERT_TRUE(json.has_value()) << json.error().message;
  for (const char* expression : {"(a+)+b", "x{2,}|X", "ab?1", "\\d{4}|\\s+|\\S", "[ab]+|.", "'[xX]|[^']+"}) {
    Json root = Json::parse(*json);
    root["pre_tokenizer"] = {
        {"type", "Sequence"},
        {"pretokenizers",
         {{{"type", "Split"}, {"pattern", {{"Regex", expression}}}, {"behavior", "Isolated"}, {"invert", false}},
          {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", false}}}}};
    const auto refused = gguf_lists(files_of(root.dump()), byte_level("gpt-2").tokens.size());
    ASSERT_FALSE(refused.has_value()) << expression << " taken for " << refused->pre;
    EXPECT_THAT(refused.error().message, HasSubstr("the rule by which its tokenizer cuts words"));
  }
}

TEST(Translate, Base64GoesThereAndBack) {
  for (const std::string bytes : {"", "a", "ab", "abc", "abcd"}) EXPECT_EQ(from_base64(to_base64(bytes)), bytes);
  EXPECT_EQ(to_base64("ab"), "YWI=");
}

}  // namespace translate_test
}  // namespace fovea::tokenizers
