#include "fovea/engine/vocabulary.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>

#include "fovea/base/file.h"
#include "fovea/base/log.h"
#include "fovea/base/testing/paths.h"
#include "fovea/formats/gguf.h"
#include "fovea/formats/testing/gguf_writer.h"

namespace fovea::engine {
namespace vocabulary_test {

using ::testing::AllOf;
using ::testing::HasSubstr;
using Json = nlohmann::json;
using Ids = std::vector<int32_t>;
using tokenizers::Tokenizer;

const std::string kSource = source_dir();

// As in tools/make_token_goldens.py.
uint64_t id_hash(const Ids& ids) {
  uint64_t h = 14695981039346656037u;
  for (const int32_t id : ids) h = (h ^ static_cast<uint64_t>(id)) * 1099511628211u;
  return h;
}

std::string shown(const Tokenizer& tokenizer, const Ids& ids) {
  std::string out;
  for (const int32_t id : ids) out += fmt::format("{}[{}] ", id, tokenizer.piece(id));
  return out;
}

// 100 kB of mixed text, line by line and whole: the ids of the reference, and the bytes again.
void expect_golden(const std::string& name, const std::string& model) {
  const auto gguf = formats::Gguf::open(model);
  ASSERT_TRUE(gguf.has_value()) << gguf.error().message;
  const auto loaded = load_tokenizer(**gguf);
  ASSERT_TRUE(loaded.has_value()) << loaded.error().message;
  const Tokenizer& tokenizer = **loaded;
  std::ifstream in(kSource + "/tests/golden/tokens/" + name + ".json");
  const Json golden = Json::parse(in);
  const std::string text = read_file(kSource + "/tests/golden/tokens/mixed.txt").value();

  size_t line = 0, begin = 0;
  for (; begin <= text.size(); ++line) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string part = text.substr(begin, end - begin);
    const Ids ids = *tokenizer.encode(part);
    ASSERT_EQ(golden["lines"][line], Json({ids.size(), id_hash(ids) & UINT32_MAX}))
        << "line " << line + 1 << ": " << part << "\nhere: " << shown(tokenizer, ids);
    ASSERT_EQ(*tokenizer.decode(ids), part);
    begin = end + 1;
  }
  EXPECT_EQ(golden["lines"].size(), line);
  const Ids whole = *tokenizer.encode(text);
  EXPECT_EQ(golden["whole"], Json({whole.size(), fmt::format("{:016x}", id_hash(whole))}));
  EXPECT_TRUE(*tokenizer.decode(whole) == text);
  for (const Json& c : golden["cases"]) {
    const std::string content = c[0];
    EXPECT_EQ(c[1].get<Ids>(), *tokenizer.encode(content)) << testing::PrintToString(content);
  }
}

std::string stored(const std::string& name) {
  const char *models = std::getenv("FOVEA_MODELS"), *home = std::getenv("HOME");
  return (models ? std::string(models) : std::string(home ? home : "") + "/.local/share/fovea/models") + "/" + name +
         ".gguf";
}

class Tokens : public ::testing::TestWithParam<const char*> {};

TEST_P(Tokens, OfMixedTextEqualTheReferenceAndGiveTheBytesBack) {
  const std::string name = GetParam();
  const std::string path = name.starts_with("tiny") ? kSource + "/tests/data/" + name + ".gguf" : stored(name);
  if (!std::filesystem::exists(path)) GTEST_SKIP() << name << " is not in the store";
  expect_golden(name, path);
}
std::string test_name(const ::testing::TestParamInfo<const char*>& model) {
  std::string name = model.param;
  std::replace_if(
      name.begin(), name.end(), [](unsigned char c) { return !std::isalnum(c); }, '_');
  return name;
}
INSTANTIATE_TEST_SUITE_P(Models, Tokens,
                         ::testing::Values("smollm2-135m", "qwen2.5-coder-0.5b", "tiny-llama", "tiny-qwen2"),
                         test_name);

// A file with the tokens "a", "b", "ab" and the control tokens "<e>" and "<|im_end|>"; keys given to
// it replace its own.
struct File {
  std::map<std::string, std::function<void(formats::GgufWriter&)>> keys;

  File() {
    set("model", "gpt2")
        .set("pre", "smollm")
        .set("tokens", std::vector<std::string>{"a", "b", "ab", "<e>", "<|im_end|>"});
    set("token_type", std::vector<int32_t>{1, 1, 1, 3, 3})
        .set("merges", std::vector<std::string>{"a b"})
        .set("eos_token_id", uint32_t{3});
  }
  template <typename T>
  File& set(const std::string& name, const T& value) {
    keys[name] = [name, value](formats::GgufWriter& w) { w.key("tokenizer.ggml." + name, value); };
    return *this;
  }
  File& drop(const std::string& name) {
    keys.erase(name);
    return *this;
  }
  Result<std::shared_ptr<const Tokenizer>> load() const {
    formats::GgufWriter writer;
    for (const auto& [name, add] : keys) add(writer);
    const std::string bytes = writer.build();
    const auto gguf = formats::Gguf::parse({reinterpret_cast<const std::byte*>(bytes.data()), bytes.size()}, "m.gguf");
    if (!gguf) return gguf.error();
    return load_tokenizer(*gguf);
  }
  std::shared_ptr<const Tokenizer> loaded() const {
    auto tokenizer = load();
    EXPECT_TRUE(tokenizer.has_value()) << tokenizer.error().message;
    return std::move(tokenizer).value();
  }
  void fails(ErrorCode code, const std::vector<std::string>& parts) const {
    const auto tokenizer = load();
    ASSERT_FALSE(tokenizer.has_value());
    EXPECT_STREQ(name_of(tokenizer.error().code), name_of(code)) << tokenizer.error().message;
    for (const std::string& part : parts) EXPECT_THAT(tokenizer.error().message, HasSubstr(part));
    EXPECT_THAT(tokenizer.error().message, HasSubstr("m.gguf"));
  }
};

TEST(Vocabulary, IsReadFromTheFileAndOutlivesIt) {
  const auto t = File().loaded();
  EXPECT_EQ(*t->encode("abb"), (Ids{2, 1}));
  EXPECT_EQ(t->eos(), 3);
  EXPECT_EQ(t->bos(), -1);
  EXPECT_TRUE(t->is_control(3));
  EXPECT_FALSE(File().drop("token_type").loaded()->is_control(3));
}

TEST(Vocabulary, EndOfTurnIsFoundByNameWhereTheFileDoesNotSay) {
  EXPECT_TRUE(File().loaded()->ends_text(4));
  EXPECT_FALSE(File().set("eot_token_id", uint32_t{2}).loaded()->ends_text(4));
  EXPECT_FALSE(File().set("token_type", std::vector<int32_t>{1, 1, 1, 3, 1}).loaded()->ends_text(4));
}

TEST(Vocabulary, ATokenBeginsTheTextWhereFileOrModelSaySo) {
  EXPECT_EQ(*File().set("bos_token_id", uint32_t{4}).loaded()->encode("a"), (Ids{0}));
  EXPECT_EQ(*File().set("bos_token_id", uint32_t{4}).set("add_bos_token", true).loaded()->encode("a"), (Ids{4, 0}));
  EXPECT_EQ(*File().set("bos_token_id", uint32_t{4}).set("pre", "llama-bpe").loaded()->encode("a"), (Ids{4, 0}));
  EXPECT_EQ(*File().set("add_eos_token", true).loaded()->encode("a"), (Ids{0, 3}));
}

TEST(Vocabulary, T6_AFileThatContradictsItselfIsRefused) {
  File()
      .set("merges", std::vector<std::string>{"a c"})
      .fails(ErrorCode::kData, {"merge 0", "a c", "not in the vocabulary"});
  File().set("merges", std::vector<std::string>{"a b", "a b"}).fails(ErrorCode::kData, {"merge 1", "twice"});
  File().set("tokens", std::vector<std::string>{"a", "b", "ab", "a", "x"}).fails(ErrorCode::kData, {"tokens 0 and 3"});
  File()
      .set("tokens", std::vector<std::string>{"a", "b", "ab", std::string(70'000, 'x'), "x"})
      .fails(ErrorCode::kData, {"token 3", "70000"});
  File().set("tokens", std::vector<std::string>{}).fails(ErrorCode::kData, {});
  File().set("token_type", std::vector<int32_t>{1, 1, 1, 7, 1}).fails(ErrorCode::kData, {"token_type", "type 7"});
  File().set("token_type", std::vector<int32_t>{1, 1, 1, -1, 1}).fails(ErrorCode::kData, {"type -1"});
  File().set("token_type", std::vector<int32_t>{1, 1}).fails(ErrorCode::kData, {"2 token types for 5 tokens"});
  File().set("scores", std::vector<float>{1}).fails(ErrorCode::kData, {"1 scores for 5 tokens"});
  File().set("merges", "a b").fails(ErrorCode::kData, {"tokenizer.ggml.merges"});
  for (const char* name : {"model", "pre", "tokens", "merges"})
    File().drop(name).fails(ErrorCode::kData, {std::string("tokenizer.ggml.") + name});
  File().set("model", "rwkv").fails(ErrorCode::kUnsupported, {"rwkv", "gpt2"});
  File().set("pre", "my-own").fails(ErrorCode::kUnsupported, {"my-own", "qwen2"});
}

TEST(Vocabulary, T7_IdsOutOfRangeAreRefusedAndMissingOnesAreNot) {
  for (const char* name : {"bos", "eos", "eot", "eom", "unknown", "padding"}) {
    const std::string key = std::string(name) + "_token_id";
    File().set(key, uint32_t{5}).fails(ErrorCode::kData, {key, "5 tokens"});
    File().set(key, int32_t{-1}).fails(ErrorCode::kData, {key});
  }
  std::vector<std::string> warnings;
  set_log_sink([&](LogLevel level, std::string_view text) {
    if (level == LogLevel::kWarning) warnings.emplace_back(text);
  });
  const auto t = File().drop("eos_token_id").set("token_type", std::vector<int32_t>{1, 1, 1, 1, 1}).loaded();
  (void)File().set("add_bos_token", true).loaded();
  set_log_sink({});
  EXPECT_EQ(t->eos(), -1);
  for (int32_t id = 0; id < 5; ++id) EXPECT_FALSE(t->ends_text(id));
  ASSERT_EQ(warnings.size(), 2u);
  EXPECT_THAT(warnings[0], AllOf(HasSubstr("m.gguf"), HasSubstr("ends a text")));
  EXPECT_THAT(warnings[1], HasSubstr("begin"));
}

}  // namespace vocabulary_test
}  // namespace fovea::engine
