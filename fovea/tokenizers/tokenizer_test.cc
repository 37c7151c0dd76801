#include "fovea/tokenizers/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "fovea/base/check.h"
#include "fovea/base/testing/sanitized.h"
#include "fovea/tokenizers/testing/slow_tokenizer.h"
#include "fovea/tokenizers/testing/vocabulary.h"
#include "fovea/tokenizers/unicode_forms.h"
#include "fovea/tokenizers/utf8.h"

namespace fovea::tokenizers {
namespace tokenizer_test {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Ids = std::vector<int32_t>;

std::shared_ptr<const Tokenizer> made(const Vocabulary& v) {
  auto tokenizer = Tokenizer::create(v);
  EXPECT_TRUE(tokenizer.has_value()) << tokenizer.error().message;
  return std::move(tokenizer).value();
}
Error refused(const Vocabulary& v) {
  auto tokenizer = Tokenizer::create(v);
  EXPECT_FALSE(tokenizer.has_value());
  return tokenizer ? Error{} : tokenizer.error();
}

// "th", "the", "he", "in", "ing", "  ", and three specials.
struct English {
  TestVocabulary vocabulary;
  int32_t th = vocabulary.merge("t", "h"), the = vocabulary.merge("th", "e"), he = vocabulary.merge("h", "e");
  int32_t in = vocabulary.merge("i", "n"), ing = vocabulary.merge("in", "g"), spaces = vocabulary.merge(" ", " ");
  int32_t begin = vocabulary.add("<|begin|>", TokenType::kControl),
          end = vocabulary.add("<|end|>", TokenType::kControl);
  int32_t call = vocabulary.add("<call>", TokenType::kUserDefined),
          unused = vocabulary.add("[PAD1]", TokenType::kUnused);

  Vocabulary view(std::string_view pre = "smollm") const {
    Vocabulary v = vocabulary.view(pre);
    v.bos = begin;
    v.eos = end;
    return v;
  }
};

// Text of a few letters, so that merges apply, in words of very different lengths.
std::string random_text(Rng& random, size_t letters, size_t bytes) {
  std::string text;
  while (text.size() < bytes) {
    const uint64_t length = random.below(8) == 0 ? random.below(700) : random.below(12);
    for (uint64_t i = 0; i < length; ++i) text += static_cast<char>('a' + random.below(letters));
    text += random.below(6) == 0 ? "\n" : " ";
  }
  return text;
}

TestVocabulary random_vocabulary(Rng& random, size_t letters, int merges, bool shuffled) {
  TestVocabulary v;
  std::vector<int32_t> usable = {' '};
  for (size_t i = 0; i < letters; ++i) usable.push_back(static_cast<int32_t>('a' + i));
  for (int i = 0; i < merges; ++i) {
    const size_t before = v.size();
    v.merge(usable[random.below(usable.size())], usable[random.below(usable.size())]);
    if (v.size() > before) usable.push_back(static_cast<int32_t>(before));
  }
  if (shuffled) v.shuffle_merges(random);
  return v;
}

TEST(Tokenizer, MergesTheBestPairFirstAndTheLeftmostOfEquals) {
  const English e;
  const auto t = made(e.view());
  EXPECT_THAT(*t->encode("thethe"), ElementsAre(e.the, e.the));
  EXPECT_THAT(*t->encode("hehing in"),
              ElementsAre(e.he, 'h', e.ing, ' ', e.in));  // no token joins a space and a letter
  EXPECT_THAT(*t->encode(""), ElementsAre());
  EXPECT_THAT(*t->encode("     x"), ElementsAre(e.spaces, e.spaces, ' ', 'x'));
}

TEST(Tokenizer, EqualsItsSlowTwinOnRandomVocabulariesAndLongWords) {
  Rng random(11);
  for (int round = 0; round < 12; round += every(5)) {
    const size_t letters = 1 + random.below(4);
    const bool shuffled = round % 2 == 1;  // a merge may then come up before the one that makes its parts
    const TestVocabulary vocabulary =
        random_vocabulary(random, letters, 5 + static_cast<int>(random.below(80)), shuffled);
    for (const PreTokenizer& pre : pre_tokenizers()) {
      const Vocabulary v = vocabulary.view(pre.names[0]);
      const std::string text = random_text(random, letters, 1200);
      const auto slow = SlowTokenizer::create(v);
      ASSERT_TRUE(slow.has_value()) << slow.error().message;
      ASSERT_EQ(*made(v)->encode(text), *slow->encode(text)) << pre.names[0] << ", round " << round;
    }
  }
}

TEST(Tokenizer, APairThatRanksBeforeTheCurrentOneGoesFirstInShortAndLongWords) {
  TestVocabulary vocabulary;
  const int32_t ab = vocabulary.merge("a", "b"), aba = vocabulary.merge("ab", "a");
  Vocabulary v = vocabulary.view("gpt-2");
  std::swap(v.merges[0], v.merges[1]);  // "ab a" now comes before the merge that makes "ab"
  const auto t = made(v);
  EXPECT_THAT(*t->encode("ababab"), ElementsAre(aba, 'b', ab));
  std::string text;
  Ids expected;
  for (int i = 0; i < 500; ++i) {
    text += "abab";
    expected.insert(expected.end(), {aba, 'b'});
  }
  EXPECT_EQ(*t->encode(text), expected);
}

TEST(Tokenizer, AWordThatIsATokenIsTakenWholeOnlyWhereTheModelDoes) {
  TestVocabulary vocabulary;
  const int32_t abc = vocabulary.add("abc", TokenType::kNormal);  // no merge leads to it
  EXPECT_THAT(*made(vocabulary.view("llama-bpe"))->encode("abc"), ElementsAre(abc));
  EXPECT_THAT(*made(vocabulary.view("qwen2"))->encode("abc"), ElementsAre('a', 'b', 'c'));
}

TEST(Tokenizer, T1_T3_AnyBytesComeBack) {
  const English e;
  const auto t = made(e.view());
  Rng random(3);
  std::vector<std::string> texts = {std::string("\0a\0", 3),
                                    "\xEF\xBB\xBFx",
                                    "\xE2\x80\xAE right to left",
                                    "\xEE\x80\x80\xF3\xB0\x80\x80",
                                    "\xCD\xB8",
                                    "\x80",
                                    "\xC0\xAF",
                                    "\xED\xA0\x80",
                                    "\xF0\x9F\x99",
                                    "\xF4\x90\x80\x80",
                                    "a\xFFthe\xC3"};
  for (int i = 0; i < 300; ++i) {
    std::string text;
    for (uint64_t n = random.below(50); n > 0; --n) text += static_cast<char>(random.below(256));
    texts.push_back(text);
  }
  for (const std::string& text : texts) {
    std::vector<uint32_t> offsets;
    const Ids ids = *t->encode(text, {}, &offsets);
    EXPECT_EQ(*t->decode(ids), text);
    ASSERT_EQ(offsets.size(), ids.size());
    for (size_t i = 0; i < ids.size(); ++i)
      EXPECT_EQ(text.substr(offsets[i], t->piece(ids[i]).size()), t->piece(ids[i]));
  }
}

TEST(Tokenizer, AByteWithoutATokenIsDroppedAndItsNeighboursMerge) {
  TestVocabulary full;
  Vocabulary v = full.view("gpt-2");
  v.tokens.erase(v.tokens.begin() + 0x04);  // and ids after it move down
  v.types.clear();
  v.tokens.push_back("!?");
  v.merges = {"! ?"};
  const auto t = made(v);
  std::vector<uint32_t> offsets;
  EXPECT_THAT(*t->encode("a!\x04?b", {}, &offsets), ElementsAre('a' - 1, 255, 'b' - 1));
  EXPECT_THAT(offsets, ElementsAre(0, 1, 4));
  EXPECT_THAT(*t->encode("\x04"), ElementsAre());
}

TEST(Tokenizer, ComposesWhereTheModelDoesAndOffsetsReferToTheOriginal) {
  const English e;
  const std::string text = "the e\xCC\x81the";  // é in two characters: bytes 4 to 6
  std::vector<uint32_t> offsets;
  EXPECT_THAT(*made(e.view("qwen2"))->encode(text, {}, &offsets), ElementsAre(e.the, ' ', 0xC3, 0xA9, e.the));
  EXPECT_THAT(offsets, ElementsAre(0, 3, 4, 4, 7));
  EXPECT_THAT(*made(e.view("smollm"))->encode(text, {}, &offsets), ElementsAre(e.the, ' ', 'e', 0xCC, 0x81, e.the));
  EXPECT_THAT(offsets, ElementsAre(0, 3, 4, 5, 6, 7));
}

TEST(Tokenizer, T4_SpecialTokensInTextStayTextUnlessAskedFor) {
  const English e;
  const auto t = made(e.view());
  const std::string text = "in<|end|>in";
  const Ids plain = *t->encode(text);
  EXPECT_EQ(std::count(plain.begin(), plain.end(), e.end), 0);
  EXPECT_EQ(*t->decode(plain), text);
  std::vector<uint32_t> offsets;
  EXPECT_THAT(*t->encode(text, {.parse_special = true}, &offsets), ElementsAre(e.in, e.end, e.in));
  EXPECT_THAT(offsets, ElementsAre(0, 2, 9));
  EXPECT_THAT(*t->encode("<|end|><|end|><|end"), ::testing::Not(::testing::Contains(e.end)));
  EXPECT_EQ(t->encode("<|end|><|end|><|en", {.parse_special = true})->size(), 6u);
  // Text that the model knows as a token of its own, but no control token, is always read whole.
  EXPECT_THAT(*t->encode("in<call>in"), ElementsAre(e.in, e.call, e.in));
}

TEST(Tokenizer, T4_NoMergeMakesAControlToken) {
  TestVocabulary vocabulary;
  const int32_t control = vocabulary.add("<>", TokenType::kControl);
  Vocabulary v = vocabulary.view("gpt-2");
  v.merges = {"< >"};
  const auto t = made(v);
  EXPECT_THAT(*t->encode("<>"), ElementsAre('<', '>'));
  EXPECT_THAT(*t->encode("<>", {.parse_special = true}), ElementsAre(control));
}

TEST(Tokenizer, TakesTheLeftmostAndLongestSpecialToken) {
  TestVocabulary vocabulary;
  const int32_t a = vocabulary.add("<a", TokenType::kControl), ab = vocabulary.add("<ab>", TokenType::kControl),
                b = vocabulary.add("b>", TokenType::kUserDefined);
  const auto t = made(vocabulary.view("gpt-2"));
  EXPECT_THAT(*t->encode("<ab>", {.parse_special = true}), ElementsAre(ab));
  EXPECT_THAT(*t->encode("<ab<a<", {.parse_special = true}), ElementsAre(a, 'b', a, '<'));
  EXPECT_THAT(*t->encode("<ab>"), ElementsAre('<', 'a', b));
  EXPECT_EQ(t->find("<ab>"), ab);
  EXPECT_EQ(t->find("b>"), b);
  EXPECT_EQ(t->find("<"), -1);
}

TEST(Tokenizer, AddsBeginningAndEndOnlyWhereTheModelWantsThem) {
  const English e;
  Vocabulary v = e.view();
  EXPECT_THAT(*made(v)->encode("in"), ElementsAre(e.in));
  v.add_bos = v.add_eos = true;
  std::vector<uint32_t> offsets;
  EXPECT_THAT(*made(v)->encode("in", {}, &offsets), ElementsAre(e.begin, e.in, e.end));
  EXPECT_THAT(offsets, ElementsAre(0, 0, 2));
  EXPECT_THAT(*made(v)->encode("in", {.add_special = false}), ElementsAre(e.in));
  v.bos = -1;
  EXPECT_THAT(*made(v)->encode(""), ElementsAre(e.end));
}

TEST(Tokenizer, KnowsItsTokens) {
  const English e;
  Vocabulary v = e.view();
  v.eom = e.call;
  const auto t = made(v);
  EXPECT_EQ(t->vocab_size(), static_cast<int32_t>(v.tokens.size()));
  EXPECT_EQ(t->piece(e.the), "the");
  EXPECT_EQ(t->piece(' '), " ");
  EXPECT_EQ(t->piece(e.end), "<|end|>");
  EXPECT_EQ(t->bos(), e.begin);
  EXPECT_EQ(t->eos(), e.end);
  EXPECT_TRUE(t->is_control(e.end) && t->is_control(e.unused));
  EXPECT_FALSE(t->is_control(e.call) || t->is_control(e.the));
  EXPECT_TRUE(t->ends_text(e.end) && t->ends_text(e.call));
  EXPECT_FALSE(t->ends_text(e.begin) || t->ends_text(-1) || t->ends_text(1 << 30));
  EXPECT_THROW((void)t->piece(-1), CheckFailed);
}

TEST(Tokenizer, T5_DecodeNamesWhatIsNoToken) {
  const English e;
  const auto t = made(e.view());
  EXPECT_EQ(*t->decode(Ids{e.begin, e.the, e.unused, e.call}), "the<call>");
  EXPECT_EQ(*t->decode(Ids{e.begin, e.the}, true), "<|begin|>the");
  for (const int32_t bad : {-1, t->vocab_size(), INT32_MAX, INT32_MIN}) {
    const auto text = t->decode(Ids{e.the, bad});
    ASSERT_FALSE(text.has_value());
    EXPECT_EQ(text.error().code, ErrorCode::kUsage);
    EXPECT_THAT(text.error().message, AllOf(HasSubstr("token 1 "), HasSubstr(std::to_string(bad))));
  }
}

TEST(Tokenizer, T6_VocabulariesThatContradictThemselvesAreRefused) {
  const English e;
  const auto with = [&](const auto& change) {
    Vocabulary v = e.view();
    change(v);
    return refused(v);
  };
  EXPECT_THAT(with([](Vocabulary& v) { v.merges[1] = "th x1"; }).message,
              AllOf(HasSubstr("merge 1 \"th x1\""), HasSubstr("not in the vocabulary")));
  EXPECT_THAT(with([](Vocabulary& v) { v.merges[1] = "t g"; }).message, HasSubstr("not in the vocabulary"));
  EXPECT_THAT(with([](Vocabulary& v) { v.merges[1] = "th"; }).message, HasSubstr("space between"));
  EXPECT_THAT(with([](Vocabulary& v) { v.merges[1] = v.merges[0]; }).message, HasSubstr("twice"));
  EXPECT_THAT(with([](Vocabulary& v) { v.tokens[7] = v.tokens[9]; }).message, HasSubstr("tokens 7 and 9 are both"));
  EXPECT_THAT(with([](Vocabulary& v) { v.types.pop_back(); }).message, HasSubstr("token types"));
  const std::string long_token(70'000, 'x');
  EXPECT_THAT(with([&](Vocabulary& v) { v.tokens[0] = long_token; }).message, HasSubstr("70000 bytes"));
  const Error special = with([&](Vocabulary& v) {
    v.tokens.back() = std::string_view(long_token).substr(0, 300), v.types.back() = TokenType::kControl;
  });
  EXPECT_EQ(special.code, ErrorCode::kLimit);
  for (const auto& error :
       {with([](Vocabulary& v) { v.kind = "rwkv"; }), with([](Vocabulary& v) { v.pre = "my-own"; })}) {
    EXPECT_EQ(error.code, ErrorCode::kUnsupported);
    EXPECT_THAT(error.message, HasSubstr("not supported"));
  }
  EXPECT_THAT(with([](Vocabulary& v) { v.tokens.clear(), v.types.clear(); }).message, HasSubstr("0 tokens"));
}

TEST(Tokenizer, T7_IdsOutOfRangeAreRefused) {
  for (int32_t Vocabulary::*id : {&Vocabulary::bos, &Vocabulary::eos, &Vocabulary::eot, &Vocabulary::eom,
                                  &Vocabulary::unknown, &Vocabulary::padding}) {
    const English e;
    Vocabulary v = e.view();
    v.*id = static_cast<int32_t>(v.tokens.size());
    EXPECT_EQ(refused(v).code, ErrorCode::kData);
    v.*id = -2;
    EXPECT_EQ(refused(v).code, ErrorCode::kData);
  }
}

TEST(Tokenizer, T2_LongRunsAreTokenizedInLittleTimeAndOverTheCapRefused) {
  // Every length of "a" up to 64 is a token, made of the two before it: the greatest number of merges.
  TestVocabulary vocabulary;
  std::string run = "a";
  for (int i = 0; i < 6; ++i, run += run) vocabulary.merge(run, run);
  for (const char* pre : {"smollm", "qwen2"}) {
    const auto t = made(vocabulary.view(pre));
    EXPECT_EQ(t->encode(std::string(1 << 20, 'a'))->size(), (1u << 20) / 64);
    for (const std::string s : {"\xF0\x9F\x99\x82", "\xCC\x81\xCC\xA3", " ", "x"}) {
      std::string text;
      while (text.size() < 400'000) text += s;
      const Ids ids = *t->encode(text);
      // The marks are put in order of their class, nothing else changes.
      EXPECT_EQ(t->decode(ids)->size(), text.size());
      EXPECT_EQ(*t->decode(ids) == text, pre == std::string("smollm") || normalized(UnicodeForm::kNfc, text) == text);
    }
  }
  const std::string big(Tokenizer::kMaxTextBytes + 1, ' ');
  EXPECT_EQ(made(vocabulary.view("gpt-2"))->encode(big).error().code, ErrorCode::kLimit);
}

TEST(StreamDecoder, GivesWholeCharactersOnlyAndTheSameTextAsAtOnce) {
  const English e;
  const auto t = made(e.view());
  Rng random(5);
  for (int round = 0; round < 300; ++round) {
    Ids ids;
    std::string bytes;
    for (uint64_t n = random.below(30); n > 0; --n) {
      const auto pick = random.below(4);
      const std::string part = pick == 0   ? "\xF0\x9F\x99\x82"
                               : pick == 1 ? "\xE4\xB8\xAD"
                               : pick == 2 ? std::string(1, static_cast<char>(random.below(256)))
                                           : "the";
      const size_t cut = random.below(3) == 0 ? random.below(part.size() + 1) : part.size();
      for (const char c : part.substr(0, cut)) ids.push_back(static_cast<unsigned char>(c));
      bytes += part.substr(0, cut);
    }
    StreamDecoder stream(*t);
    std::string text;
    for (const int32_t id : ids) {
      const std::string piece = stream.push(id);
      EXPECT_TRUE(is_utf8(piece));
      text += piece;
    }
    text += stream.finish();
    EXPECT_EQ(text, replace_invalid_utf8(bytes));
    EXPECT_EQ(stream.finish(), "");
  }
}

TEST(StreamDecoder, ShowsNoControlTokens) {
  const English e;
  const auto t = made(e.view());
  StreamDecoder stream(*t);
  EXPECT_EQ(stream.push(e.begin), "");
  EXPECT_EQ(stream.push(0xC3), "");
  EXPECT_EQ(stream.push(e.end), "");
  EXPECT_EQ(stream.push(0xA9), "\xC3\xA9");
  EXPECT_EQ(stream.push(0xC3), "");
  EXPECT_EQ(stream.finish(), "\xEF\xBF\xBD");
}

TEST(Tokenizer, FlagsOfAFolderAreTrueOrFalse) {
  Vocabulary v;
  v.name = "\"folder\"", v.kind = "files", v.files.vocab_txt = "[UNK]\na\n";
  for (const std::string key : {"do_lower_case", "strip_accents", "tokenize_chinese_chars"}) {
    const std::string wrong = "{\"" + key + "\": \"no\"}", none = "{\"" + key + "\": null}";
    v.files.tokenizer_config = wrong;
    EXPECT_THAT(refused(v).message, HasSubstr("tokenizer_config.json: \"" + key + "\" is \"no\"; true or false"));
    v.files.tokenizer_config = none;
    EXPECT_EQ(made(v)->vocab_size(), 2);
  }
}

}  // namespace tokenizer_test
}  // namespace fovea::tokenizers
