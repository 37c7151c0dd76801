#include "fovea/tokenizers/tokenizer_json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <nlohmann/json.hpp>

#include "fovea/tokenizers/tokenizer.h"

namespace fovea::tokenizers {
namespace tokenizer_json_test {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Json = nlohmann::ordered_json;
using Ids = std::vector<int32_t>;

// "a", "b", "ab" and a control token.
Json small() {
  return Json::parse(R"({
    "version": "1.0", "truncation": {"max_length": 2}, "padding": null,
    "added_tokens": [{"id": 3, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}],
    "normalizer": null, "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": null, "decoder": null,
    "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null, "end_of_word_suffix": null,
              "fuse_unk": false, "byte_fallback": false, "ignore_merges": false, "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]}})");
}

Result<std::shared_ptr<const Tokenizer>> load(const Json& json) {
  const std::string text = json.dump();
  Vocabulary v;
  v.name = "m";
  v.kind = "files";
  v.files.tokenizer_json = text;
  return Tokenizer::create(v);
}

Error refused(const std::function<void(Json&)>& change) {
  Json json = small();
  change(json);
  const auto t = load(json);
  EXPECT_FALSE(t.has_value()) << json.dump();
  return t ? Error{} : t.error();
}

TEST(TokenizerJson, IsReadAndTruncationIsNot) {
  const auto t = load(small());
  ASSERT_TRUE(t.has_value()) << t.error().message;
  EXPECT_EQ(*(*t)->encode("ab ba<s>aab"), (Ids{2, 1, 0, 0, 2}));  // of "<s>" no character is known
  EXPECT_EQ(*(*t)->encode("ab<s>", {.parse_special = true}), (Ids{2, 3}));
  EXPECT_EQ(*(*t)->decode(Ids{2, 3, 1}), "ab b");
  EXPECT_EQ((*t)->vocab_size(), 4);
}

TEST(TokenizerJson, FilesOfOldNameNoModelAndWriteMergesAsText) {
  Json json = small();
  json["model"].erase("type");
  json["model"]["merges"] = {"a b"};
  json["model"]["unk_token"] = "";
  const auto t = load(json);
  ASSERT_TRUE(t.has_value()) << t.error().message;
  EXPECT_EQ(*(*t)->encode("ab"), (Ids{2}));
}

TEST(TokenizerJson, WhatIsUnknownIsRefusedByItsPath) {
  const auto with = [](const char* path, const Json& value) {
    const Error e = refused([&](Json& j) { j[Json::json_pointer(path)] = value; });
    EXPECT_EQ(e.code, ErrorCode::kUnsupported) << e.message;
    return e.message;
  };
  EXPECT_THAT(with("/model/type", "Neural"), HasSubstr(".model.type"));
  EXPECT_THAT(with("/model/dropout", 0.1), HasSubstr(".model.dropout"));
  EXPECT_THAT(with("/model/new_field", 1), HasSubstr(".model.new_field"));
  EXPECT_THAT(with("/thing", 1), HasSubstr(".thing"));
  EXPECT_THAT(with("/normalizer", {{"type", "Upper"}}), AllOf(HasSubstr(".normalizer.type"), HasSubstr("Upper")));
  EXPECT_THAT(with("/normalizer", {{"type", "Sequence"}, {"normalizers", {{{"type", "NFC"}}, {{"type", "X"}}}}}),
              HasSubstr(".normalizer.normalizers[1].type"));
  EXPECT_THAT(with("/normalizer", {{"type", "NFC"}, {"how", 1}}), HasSubstr(".normalizer.how"));
  EXPECT_THAT(with("/pre_tokenizer", {{"type", "Split"}, {"pattern", {{"Regex", "[a&&b]"}}}}),
              HasSubstr(".pre_tokenizer.pattern.Regex"));
  EXPECT_THAT(with("/pre_tokenizer", {{"type", "Split"}, {"pattern", {{"String", "a"}}}, {"behavior", "Eaten"}}),
              HasSubstr("Eaten"));
  EXPECT_THAT(with("/pre_tokenizer", {{"type", "Guess"}}), HasSubstr(".pre_tokenizer.type"));
  EXPECT_THAT(with("/post_processor", {{"type", "Mine"}}), HasSubstr(".post_processor.type"));
  EXPECT_THAT(with("/decoder", {{"type", "Mine"}}), HasSubstr(".decoder.type"));
  EXPECT_THAT(with("/added_tokens/0/weight", 1), HasSubstr(".added_tokens[0].weight"));
}

TEST(TokenizerJson, T6_AFileThatContradictsItselfIsRefused) {
  const auto with = [](const char* path, const Json& value) {
    const Error e = refused([&](Json& j) { j[Json::json_pointer(path)] = value; });
    EXPECT_EQ(e.code, ErrorCode::kData) << e.message;
    return e.message;
  };
  EXPECT_THAT(with("/model/merges", Json::parse(R"([["a", "x"]])")),
              AllOf(HasSubstr("merge 0"), HasSubstr("not in the vocabulary")));
  EXPECT_THAT(with("/model/merges", Json::parse(R"([["b", "a"]])")), HasSubstr("not in the vocabulary"));
  EXPECT_THAT(with("/model/merges", Json::parse(R"([["a", "b"], ["a", "b"]])")), HasSubstr("twice"));
  EXPECT_THAT(with("/model/merges", {"ab"}), HasSubstr(".model.merges[0]"));
  EXPECT_THAT(with("/model/merges", 1), HasSubstr(".model.merges"));
  EXPECT_THAT(with("/model/vocab", {{"a", 0}, {"b", 0}, {"ab", 2}}), HasSubstr("the id 0"));
  EXPECT_THAT(with("/model/vocab", {{"a", 0}, {"b", 4'000'000'000u}, {"ab", 2}}), HasSubstr("4000000000"));
  EXPECT_THAT(with("/model/vocab", {{"a", 0}, {"b", -1}, {"ab", 2}}), HasSubstr("-1"));
  EXPECT_THAT(with("/model/vocab", {{"a", 0}, {"b", 1.5}, {"ab", 2}}), HasSubstr("1.5"));
  EXPECT_THAT(with("/model/vocab", Json::object()), HasSubstr("no tokens"));
  EXPECT_THAT(with("/model", nullptr), HasSubstr(".model"));
  EXPECT_THAT(with("/added_tokens/0/id", 1), HasSubstr("already"));
  EXPECT_THAT(with("/added_tokens/0/id", 1 << 29), HasSubstr("536870912"));
  EXPECT_THAT(with("/added_tokens/0/content", 7), HasSubstr(".added_tokens[0].content"));
  EXPECT_THAT(with("/post_processor", {{"type", "BertProcessing"}, {"sep", {"x", 9}}, {"cls", {"y", 1}}}),
              HasSubstr("below 4"));
  EXPECT_THAT(with("/model", Json::parse(R"({"type": "Unigram", "unk_id": 5, "vocab": [["a", 0.5]]})")),
              HasSubstr(".model.unk_id"));
  EXPECT_THAT(with("/model", Json::parse(R"({"type": "Unigram", "vocab": [["a"]]})")), HasSubstr(".model.vocab[0]"));
  EXPECT_THAT(with("/model", Json::parse(R"({"type": "Unigram", "vocab": [["a", 0], ["a", 1]]})")),
              HasSubstr("are both"));
  EXPECT_EQ(refused([](Json& j) { j["added_tokens"][0]["content"] = std::string(300, 'x'); }).code, ErrorCode::kLimit);
  const Error map = refused([](Json& j) {
    j["normalizer"] = {{"type", "Precompiled"}, {"precompiled_charsmap", "AAAAAAAA"}};
  });
  EXPECT_THAT(map.message, HasSubstr(".normalizer.precompiled_charsmap"));
}

TEST(TokenizerJson, T8_AHostileExpressionGivesAnErrorForTheText) {
  Json json = small();
  json["pre_tokenizer"] = {
      {"type", "Split"}, {"pattern", {{"Regex", "(a+)+[bc]"}}}, {"behavior", "Isolated"}, {"invert", false}};
  const auto t = load(json);
  ASSERT_TRUE(t.has_value()) << t.error().message;
  EXPECT_EQ((*t)->encode(std::string(50'000, 'a')).error().code, ErrorCode::kLimit);
  EXPECT_EQ(*(*t)->encode("ab"), (Ids{2}));
}

TEST(TokenizerJson, SpecialTokensTakeTheWhiteSpaceThatIsTheirs) {
  Json json = small();
  json["added_tokens"][0]["lstrip"] = json["added_tokens"][0]["rstrip"] = true;
  const auto t = load(json);
  ASSERT_TRUE(t.has_value()) << t.error().message;
  std::vector<uint32_t> offsets;
  EXPECT_EQ(*(*t)->encode("a <s>  b", {.parse_special = true}, &offsets), (Ids{0, 3, 1}));
  EXPECT_THAT(offsets, ElementsAre(0, 1, 7));
  const auto found = (*t)->find_special("a <s>  b");
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].begin, 1u);
  EXPECT_EQ(found[0].end, 7u);
}

TEST(TokenizerJson, TheRestOfATextHasNoBeginning) {
  Json json = small();
  json["pre_tokenizer"] = {{"type", "Metaspace"}, {"replacement", "_"}, {"prepend_scheme", "first"}, {"split", true}};
  json["model"]["vocab"]["_"] = 4;
  const auto t = load(json);
  ASSERT_TRUE(t.has_value()) << t.error().message;
  EXPECT_EQ(*(*t)->encode("ab"), (Ids{4, 2}));
  EXPECT_EQ(*(*t)->encode("ab", {.continues = true}), (Ids{2}));
}

}  // namespace tokenizer_json_test
}  // namespace fovea::tokenizers
