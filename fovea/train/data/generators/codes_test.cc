#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "fovea/base/testing/paths.h"
#include "fovea/engine/vocabulary.h"
#include "fovea/formats/source.h"
#include "fovea/train/data/data.h"

namespace fovea::train {
namespace codes_test {

using ::testing::HasSubstr;
using Json = nlohmann::ordered_json;

std::unique_ptr<Data> make(Json settings, std::string* error, const tokenizers::Tokenizer* tokenizer, int64_t context,
                           int64_t vocab_size = 128) {
  settings["generator"] = "codes";
  Settings s(settings, "data");
  auto data = make_data(s, {.tokenizer = tokenizer,
                            .no_tokenizer = "this model has none",
                            .vocab_size = tokenizer ? tokenizer->vocab_size() : vocab_size,
                            .context = context,
                            .seed = 1});
  const Status end = s.finish();
  *error = end ? "" : end.error().message;
  return data;
}

struct Read {
  std::string prompt, answer;
};
using Decode = std::function<std::string(const std::vector<int32_t>&)>;
Read read(const Sample& sample, const Decode& decode) {
  const int64_t wanted = sample.n_targets(), first = std::ssize(sample.targets) - wanted;
  for (int64_t i = first; i < std::ssize(sample.targets); ++i) EXPECT_GE(sample.targets[static_cast<size_t>(i)], 0);
  return {decode({sample.tokens.begin(), sample.tokens.begin() + first + 1}),
          decode({sample.targets.begin() + first, sample.targets.end()})};
}

// Each code is told once and is another, and the one asked for is the answer.
void check(const Data& data, int64_t context, size_t keys, double depth, const Decode& decode) {
  const std::string begin = "The code of ", is = " is ", ask = "What is the code of ";
  std::set<std::string> asked_for;
  for (uint64_t i = 0; i < 40; ++i) {
    const Sample sample = data.sample(i);
    EXPECT_LE(std::ssize(sample.tokens), context);
    EXPECT_GE(std::ssize(sample.tokens), context - 36) << "one more sentence has room";
    const Read text = read(sample, decode);
    const size_t question = text.prompt.find(ask);
    ASSERT_NE(question, std::string::npos) << text.prompt;
    const std::string told = text.prompt.substr(0, question);
    const size_t town = question + ask.size();
    const std::string asked = text.prompt.substr(town, text.prompt.find('?', town) - town);
    std::map<std::string, std::string> codes;
    std::set<std::string> different;
    for (size_t at = told.find(begin); at != told.npos; at = told.find(begin, at + 1)) {
      const size_t name = at + begin.size(), end = told.find(is, name), code = end + is.size();
      const std::string written = told.substr(code, told.find('.', code) + 1 - code);
      EXPECT_TRUE(codes.emplace(told.substr(name, end - name), written).second);
      different.insert(written);
    }
    EXPECT_EQ(codes.size(), keys) << told;
    EXPECT_EQ(different.size(), keys);
    asked_for.insert(asked);
    EXPECT_EQ(text.answer, " " + codes[asked]) << text.prompt;  // with the full stop
    EXPECT_EQ(text.prompt.substr(question), ask + asked + "? " + begin + asked + " is");
    const size_t at = told.find(begin + asked);
    if (depth == 0) {
      EXPECT_LT(at, 90u) << "only other codes stand before it";
    } else if (depth == 1) {
      EXPECT_GT(at + 120, told.size());
    }
  }
  EXPECT_GT(asked_for.size(), 10u);
}

TEST(Codes, AreToldInTheTextAndAskedForAtItsEnd) {
  const auto source = formats::open_model(source_dir() + "/tests/data/tiny-qwen2.gguf");
  ASSERT_TRUE(source.has_value()) << source.error().message;
  const auto tokenizer = engine::load_tokenizer(**source);
  ASSERT_TRUE(tokenizer.has_value()) << tokenizer.error().message;
  const auto decode = [&](const std::vector<int32_t>& ids) { return *(*tokenizer)->decode(ids); };
  const auto of_bytes = [](const std::vector<int32_t>& ids) { return std::string(ids.begin(), ids.end()); };
  for (const double depth : {-1.0, 0.0, 1.0}) {
    std::string error;
    const auto data = make({{"keys", 3}, {"depth", depth}}, &error, tokenizer->get(), 500);
    ASSERT_EQ(error, "");
    check(*data, 500, 3, depth, decode);
    const auto bytes = make({{"keys", 3}, {"depth", depth}}, &error, nullptr, 600);
    ASSERT_EQ(error, "");
    check(*bytes, 600, 3, depth, of_bytes);
  }
  std::string error;
  const auto all = make({{"keys", 10}, {"digits", 1}}, &error, nullptr, 600);
  ASSERT_EQ(error, "");
  check(*all, 600, 10, -1, of_bytes);
}

TEST(Codes, WhatDoesNotFitIsRefusedByName) {
  std::string error;
  make({}, &error, nullptr, 400, 100);
  EXPECT_THAT(error, HasSubstr("codes needs a tokenizer, and this model has none, or a vocabulary of 128 bytes"));
  make({{"keys", 30}}, &error, nullptr, 400);
  EXPECT_THAT(error, HasSubstr("keys may take"));
  make({{"keys", 11}, {"digits", 1}}, &error, nullptr, 4000);
  EXPECT_THAT(error, HasSubstr("keys is more than there are codes of one digit"));
  make({{"keys", 10}, {"digits", 1}}, &error, nullptr, 4000);
  EXPECT_EQ(error, "");
}

}  // namespace codes_test
}  // namespace fovea::train
