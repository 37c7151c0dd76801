#include "fovea/tokenizers/sentencepiece_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "fovea/tokenizers/tokenizer.h"

namespace fovea::tokenizers {
namespace sentencepiece_model_test {

using ::testing::HasSubstr;
using Ids = std::vector<int32_t>;

// Writes fields of protocol buffers.
std::string varint(uint64_t n) {
  std::string out;
  for (; n > 127; n >>= 7) out += static_cast<char>(n | 128);
  return out + static_cast<char>(n);
}
std::string number(int field, uint64_t value) { return varint(static_cast<uint64_t>(field) << 3) + varint(value); }
std::string bytes(int field, const std::string& value) {
  return varint(static_cast<uint64_t>(field) << 3 | 2) + varint(value.size()) + value;
}
std::string piece(const std::string& text, float score, int type = 1) {
  char raw[4];
  std::memcpy(raw, &score, 4);
  return bytes(1, bytes(1, text) + varint(2 << 3 | 5) + std::string(raw, 4) + number(3, static_cast<uint64_t>(type)));
}
std::string pieces() {
  return piece("<unk>", 0, 2) + piece("<s>", 0, 3) + piece("</s>", 0, 3) + piece("a", -3) + piece("b", -4) +
         piece("ab", -1) + piece("\xE2\x96\x81", -5);
}

TEST(SentencePieceModel, IsReadByKind) {
  for (const int kind : {1, 2}) {
    const std::string file = pieces() + bytes(2, number(3, static_cast<uint64_t>(kind)) + number(99, 1)) +
                             bytes(3, number(3, 0) + number(4, 0));
    Vocabulary v;
    v.name = "m";
    v.kind = "files";
    v.files.tokenizer_model = file;
    const auto t = Tokenizer::create(v);
    ASSERT_TRUE(t.has_value()) << t.error().message;
    EXPECT_EQ(*(*t)->encode("ab xxa"), (Ids{1, 5, 6, 0, 3}));  // <s> in front; unknown neighbours are one token
    EXPECT_EQ(*(*t)->decode(Ids{1, 5, 6, 3}), "ab a");
    EXPECT_EQ((*t)->eos(), 2);
    EXPECT_TRUE((*t)->ends_text(2));
    EXPECT_EQ(*(*t)->encode("<s>", {.add_special = false}), (Ids{0})) << "T4: text spells no control token";
  }
}

TEST(SentencePieceModel, EqualScoresGoLeftmostFirst) {
  const std::string file = piece("<unk>", 0, 2) + piece("a", -3) + piece("ab", -1) + piece("ba", -1) + piece("b", -3) +
                           bytes(2, number(3, 2) + number(41, UINT64_MAX) + number(42, UINT64_MAX)) +
                           bytes(3, number(3, 0) + number(4, 0));
  const auto model = parse_sentencepiece(file, "m");
  ASSERT_TRUE(model.has_value()) << model.error().message;
  EXPECT_EQ(model->bos, -1);
  Vocabulary v;
  v.kind = "files";
  v.files.tokenizer_model = file;
  EXPECT_EQ(*(*Tokenizer::create(v))->encode("bab"), (Ids{3, 4}));
  EXPECT_EQ(*(*Tokenizer::create(v))->encode("aba"), (Ids{2, 1}));
}

TEST(SentencePieceModel, T6_WhatContradictsItselfIsRefusedWithItsByte) {
  const auto refused = [](const std::string& file) {
    const auto model = parse_sentencepiece(file, "m");
    EXPECT_FALSE(model.has_value());
    return model ? std::string() : model.error().message;
  };
  const std::string good = pieces();
  EXPECT_THAT(refused(""), HasSubstr("no pieces"));
  EXPECT_THAT(refused(good.substr(0, good.size() - 1)), HasSubstr("ends behind"));
  EXPECT_THAT(refused(good + "\x0A\xFF\xFF\xFF\xFF\x0F"), HasSubstr("ends behind"));
  EXPECT_THAT(refused(good + std::string(11, '\xFF')), HasSubstr("ten bytes"));
  EXPECT_THAT(refused(good + "\x0B"), HasSubstr("unknown kind"));
  EXPECT_THAT(refused(good + std::string(1, '\0')), HasSubstr("no field"));
  EXPECT_THAT(refused(good + number(1, 3)), HasSubstr("no message"));
  EXPECT_THAT(refused(good + bytes(9, "x")), HasSubstr("unknown field 9"));
  EXPECT_THAT(refused(good + piece("x", 0, 9)), HasSubstr("type 9"));
  EXPECT_THAT(refused(good + bytes(2, number(41, 7))), HasSubstr("special token is 7"));
  EXPECT_THAT(refused(good + bytes(2, number(3, 4))), HasSubstr("type 4"));
  EXPECT_THAT(refused("{\"version\": 1}"), HasSubstr("byte"));

  const auto made = [](const std::string& file) {
    Vocabulary v;
    v.name = "m";
    v.kind = "files";
    v.files.tokenizer_model = file;
    const auto t = Tokenizer::create(v);
    EXPECT_FALSE(t.has_value());
    return t ? std::string() : t.error().message;
  };
  EXPECT_THAT(made(good + piece("a", 0)), HasSubstr("are both"));
  EXPECT_THAT(made(good + piece("c", std::nanf(""))), HasSubstr("score"));
  EXPECT_THAT(made(good + bytes(2, number(35, 1))), HasSubstr("falls back"));
  EXPECT_THAT(made(good + bytes(3, bytes(2, "abc"))), HasSubstr("character map"));
}

}  // namespace sentencepiece_model_test
}  // namespace fovea::tokenizers
