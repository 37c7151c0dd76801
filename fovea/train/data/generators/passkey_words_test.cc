#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "fovea/base/file.h"
#include "fovea/base/testing/paths.h"
#include "fovea/engine/vocabulary.h"
#include "fovea/formats/source.h"
#include "fovea/train/data/data.h"

namespace fovea::train {
namespace passkey_words_test {

using ::testing::HasSubstr;
using Json = nlohmann::ordered_json;

class PasskeyWords : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto source = formats::open_model(source_dir() + "/tests/data/tiny-qwen2.gguf");
    ASSERT_TRUE(source.has_value()) << source.error().message;
    source_ = *source;
    const auto tokenizer = engine::load_tokenizer(*source_);
    ASSERT_TRUE(tokenizer.has_value()) << tokenizer.error().message;
    tokenizer_ = *tokenizer;
    std::string prose;
    for (int i = 0; i < 900; ++i) prose += "Line " + std::to_string(i) + " of a book. ";
    prose_ = ::testing::TempDir() + "passkey-words.txt";
    ASSERT_TRUE(write_file_atomic(prose_, prose).has_value());
  }
  std::unique_ptr<Data> make(Json settings, int64_t context, bool with_tokenizer = true) {
    settings["generator"] = "passkey-words";
    if (!settings.contains("prose")) settings["prose"] = prose_;
    Settings s(settings, "data");
    auto data = make_data(s, {.tokenizer = with_tokenizer ? tokenizer_.get() : nullptr,
                              .no_tokenizer = "this model has none",
                              .vocab_size = with_tokenizer ? tokenizer_->vocab_size() : 100,
                              .context = context,
                              .seed = 1});
    const Status end = s.finish();
    error_ = end ? "" : end.error().message;
    return data;
  }
  std::string text_of(const std::vector<int32_t>& ids) const { return *tokenizer_->decode(ids); }

  std::shared_ptr<const formats::ModelSource> source_;
  std::shared_ptr<const tokenizers::Tokenizer> tokenizer_;
  std::string prose_, error_;
};

TEST_F(PasskeyWords, AreToldInTheProseAndAskedForBehindIt) {
  const auto data = make({{"keys", 3}, {"words", 4}, {"least", 900}}, 1400);
  ASSERT_EQ(error_, "");
  const std::string told = "Remember this sequence of words, it's the ", vault = " passkey to the vault:";
  const std::string asked = "Based on the content of the book, what is the ", answer = "?\nPasskey:";
  std::set<size_t> lengths;
  double first_depth = 1, last_depth = 0;
  for (uint64_t i = 0; i < 30; ++i) {
    const Sample sample = data->sample(i);
    std::vector<int32_t> ids = sample.tokens;
    ids.push_back(sample.targets.back());
    EXPECT_GE(ids.size(), 900u);
    EXPECT_LE(ids.size(), 1401u);
    lengths.insert(ids.size());
    const std::string text = text_of(ids);
    std::map<std::string, std::string> keys;  // by their ordinal
    const size_t questions = text.find(asked);
    for (size_t at = text.find(told); at != text.npos; at = text.find(told, at + 1)) {
      const size_t name = at + told.size(), words = text.find(vault, name) + vault.size();
      keys[text.substr(name, text.find(' ', name) - name)] = text.substr(words, text.find("\n\n", words) - words);
      first_depth = std::min(first_depth, static_cast<double>(at) / static_cast<double>(questions));
      last_depth = std::max(last_depth, static_cast<double>(at) / static_cast<double>(questions));
    }
    ASSERT_EQ(keys.size(), 3u) << text;
    std::string expected;
    for (const char* ordinal : {"first", "second", "third"}) expected += keys.at(ordinal);
    std::string learned, tail = text.substr(questions);
    for (size_t t = 0; t < sample.targets.size(); ++t) {
      if (sample.targets[t] != kNoTarget) learned += text_of({sample.targets[t]});
    }
    EXPECT_EQ(learned, expected);
    for (const char* ordinal : {"first", "second", "third"}) {
      const size_t question = tail.find(asked + ordinal);
      ASSERT_NE(question, tail.npos) << tail;
      const size_t begin = tail.find(answer, question) + answer.size();
      EXPECT_EQ(tail.substr(begin, keys[ordinal].size()), keys[ordinal]);
    }
  }
  EXPECT_GT(lengths.size(), 20u);
  EXPECT_LT(first_depth, 0.3);
  EXPECT_GT(last_depth, 0.7);
}

TEST_F(PasskeyWords, TheWholeTailIsLearntWhereItIsAskedFor) {
  const auto answers = make({{"keys", 2}, {"words", 4}}, 900),
             tail = make({{"keys", 2}, {"words", 4}, {"learn", "tail"}}, 900);
  const Sample a = answers->sample(3), b = tail->sample(3);
  EXPECT_EQ(a.tokens, b.tokens);
  size_t first = 0;
  while (b.targets[first] == kNoTarget) ++first;
  EXPECT_GT(b.n_targets(), a.n_targets());
  EXPECT_EQ(b.n_targets(), std::ssize(b.targets) - static_cast<int64_t>(first));
  EXPECT_THAT(text_of({b.targets.begin() + static_cast<int64_t>(first), b.targets.end()}),
              ::testing::StartsWith("\n\nBased on the content of the book, what is the first"));
}

TEST_F(PasskeyWords, WhatDoesNotFitIsRefusedByName) {
  make({}, 400, /*with_tokenizer=*/false);
  EXPECT_THAT(error_, HasSubstr("passkey-words needs a tokenizer, and this model has none, or a vocabulary of 128"));
  make({{"prose", "none.txt"}}, 400);
  EXPECT_THAT(error_, HasSubstr("none.txt"));
  make({{"prose", Json::array()}}, 400);
  EXPECT_THAT(error_, HasSubstr("prose is empty"));
  make({{"prose", 7}}, 400);
  EXPECT_THAT(error_, HasSubstr("prose"));
  make({{"words", 32}}, 400);
  EXPECT_THAT(error_, HasSubstr("keys and words may take"));
  make({{"keys", 1}, {"words", 1}}, 100000);
  EXPECT_THAT(error_, HasSubstr("prose has"));
  make({{"keys", 11}}, 400);
  EXPECT_THAT(error_, HasSubstr("keys"));
}

}  // namespace passkey_words_test
}  // namespace fovea::train
