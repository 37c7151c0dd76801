#include "fovea/train/data/data.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>

#include "fovea/base/file.h"

namespace fovea::train {
namespace data_test {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

struct Made {
  std::unique_ptr<Data> data;
  std::string error;
};
Made make(const nlohmann::ordered_json& settings, int64_t context, int64_t vocab_size = 64) {
  Settings s(settings, "data");
  Made made{.data = make_data(s, {.no_tokenizer = "this model has none", .vocab_size = vocab_size, .context = context}),
            .error = ""};
  if (const Status end = s.finish(); !end) made.error = end.error().message;
  return made;
}

// A .npy file of int32.
std::string npy(const std::string& name, const std::vector<int32_t>& ids) {
  std::string header = "{'descr': '<i4', 'fortran_order': False, 'shape': (" + std::to_string(ids.size()) + ",), }";
  header.append(63 - (10 + header.size()) % 64, ' ');
  header += '\n';
  std::string bytes("\x93NUMPY\x01\x00", 8);
  bytes += static_cast<char>(header.size());
  bytes += '\0';
  bytes += header;
  bytes.append(reinterpret_cast<const char*>(ids.data()), ids.size() * 4);
  const std::string path = ::testing::TempDir() + name;
  EXPECT_TRUE(write_file_atomic(path, bytes).has_value());
  return path;
}

std::vector<int32_t> counted(int n) {
  std::vector<int32_t> ids(static_cast<size_t>(n));
  std::iota(ids.begin(), ids.end(), 0);
  return ids;
}

TEST(TokenData, SequentialIsTheFormula) {
  const Made made = make({{"tokens", npy("seq.npy", counted(20))}}, 4);
  ASSERT_EQ(made.error, "");
  // (i * 5) mod (20 - 5)
  EXPECT_THAT(made.data->sequential(0).tokens, ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(made.data->sequential(1).tokens, ElementsAre(5, 6, 7, 8));
  EXPECT_THAT(made.data->sequential(1).targets, ElementsAre(6, 7, 8, 9));
  EXPECT_THAT(made.data->sequential(3).tokens, ElementsAre(0, 1, 2, 3));
}

TEST(TokenData, ARoundReadsEveryWindowOnce) {
  const Made made = make({{"tokens", npy("round.npy", counted(22))}}, 4);
  ASSERT_EQ(made.data->size(), 5u);
  Order order(*made.data, /*shuffled=*/true, /*seed=*/3), again(*made.data, true, 3), other(*made.data, true, 4);
  std::set<int32_t> begins;
  std::vector<int32_t> first, second, elsewhere;
  for (uint64_t i = 0; i < 5; ++i) {
    begins.insert(order(i).tokens[0]);
    first.push_back(order(i).tokens[0]);
    second.push_back(order(i + 5).tokens[0]);
    elsewhere.push_back(other(i).tokens[0]);
  }
  EXPECT_THAT(begins, ElementsAre(0, 4, 8, 12, 16));
  EXPECT_TRUE(first != second || first != elsewhere);
  EXPECT_EQ(again(7).tokens, order(7).tokens);  // without having asked for those before
}

TEST(TokenData, WhatDoesNotFitIsRefusedByName) {
  EXPECT_THAT(make({{"tokens", npy("short.npy", counted(5))}}, 4).error, HasSubstr("has 5 tokens, and a context of 4"));
  EXPECT_THAT(make({{"tokens", npy("none.npy", {})}}, 4).error, HasSubstr("tokens has no tokens"));
  EXPECT_THAT(make({{"tokens", npy("wide.npy", counted(80))}}, 4).error, HasSubstr("the id 64 at 64"));
  EXPECT_THAT(make({{"tokens", "no-such.npy"}}, 4).error, HasSubstr("no-such.npy"));
  EXPECT_THAT(make({{"text", "x.txt"}}, 4).error, HasSubstr("needs a tokenizer, and this model has none"));
  EXPECT_THAT(make({{"tokns", "x.npy"}}, 4).error, HasSubstr("the nearest is tokens"));
  EXPECT_THAT(make(nlohmann::ordered_json::object(), 4).error, HasSubstr("data are one of generator, images, jsonl"));
  EXPECT_THAT(make({{"tokens", "x"}, {"jsonl", "y"}}, 4).error, HasSubstr("stands beside"));
  EXPECT_THAT(make({{"generator", "inductoin"}}, 4).error, HasSubstr("did you mean induction?"));
}

TEST(JsonlData, IdsGoAsTheyAreAndLongOnesAreCut) {
  const std::string path = ::testing::TempDir() + "ids.jsonl";
  ASSERT_TRUE(write_file_atomic(path,
                                "{\"tokens\": [1, 2, 3], \"targets\": [-100, 5, -100]}\n\n"
                                "{\"tokens\": [1, 2, 3, 4, 5, 6, 7]}\n")
                  .has_value());
  const Made made = make({{"jsonl", path}}, 4);
  ASSERT_EQ(made.error, "");
  ASSERT_EQ(made.data->size(), 2u);
  EXPECT_THAT(made.data->sample(0).targets, ElementsAre(kNoTarget, 5, kNoTarget));
  EXPECT_THAT(made.data->sample(1).tokens, ElementsAre(1, 2, 3, 4));
  EXPECT_THAT(made.data->sample(1).targets, ElementsAre(2, 3, 4, 5));
}

TEST(JsonlData, ABadLineIsNamed) {
  const auto error = [](const std::string& text) {
    const std::string path = ::testing::TempDir() + "bad.jsonl";
    EXPECT_TRUE(write_file_atomic(path, text).has_value());
    return make({{"jsonl", path}}, 4).error;
  };
  EXPECT_THAT(error("{\"tokens\": [1, 2], \"targets\": [5, -2]}\n"), HasSubstr("line 1: targets[1] is -2"));
  EXPECT_THAT(error("{\"tokens\": [1, 2]}\n{\"tokens\": [1, 99]}\n"),
              HasSubstr("line 2: tokens[1] is 99; ids are 0 to 63"));
  EXPECT_THAT(error("{\"tokens\": [1, 2], \"targets\": [3]}\n"), HasSubstr("2 tokens and 1 targets"));
  EXPECT_THAT(error("{\"tokens\": \n"), HasSubstr("line 1"));
  EXPECT_THAT(error("[1]\n"), HasSubstr("line 1: it is no object"));
  EXPECT_THAT(error("{\"question\": \"x\"}\n"), HasSubstr("texts need a tokenizer, and this model has none"));
  EXPECT_THAT(error("\n\n"), HasSubstr("has no line with something to learn"));
}

// Of a generator: the first sample of a seed, which must stay what it is on every machine.
TEST(Generators, GiveTheSameSamplesForASeed) {
  for (const std::string& name : generator_names()) {
    const auto one = make({{"generator", name}, {"seed", 5}}, 12), two = make({{"generator", name}, {"seed", 5}}, 12),
               other = make({{"generator", name}, {"seed", 6}}, 12);
    ASSERT_EQ(one.error, "") << name;
    for (uint64_t i : {0, 7, 1000}) {
      const Sample sample = one.data->sample(i);
      EXPECT_EQ(sample.tokens, two.data->sample(i).tokens) << name;
      EXPECT_EQ(sample.tokens.size(), sample.targets.size()) << name;
      EXPECT_LE(sample.tokens.size(), 12u) << name;
      EXPECT_GT(sample.n_targets(), 0) << name;
      for (const int32_t id : sample.tokens) EXPECT_TRUE(id >= 0 && id < 64) << name;
      for (const int32_t id : sample.targets) EXPECT_TRUE(id == kNoTarget || (id >= 0 && id < 64)) << name;
    }
    const Sample first = one.data->sample(0), second = one.data->sample(1);
    if (first.picture) {  // captions are few, and may be alike
      EXPECT_NE(first.picture->pixels, second.picture->pixels) << name;
    } else {
      EXPECT_NE(first.tokens, second.tokens) << name;
    }
    EXPECT_NE(one.data->fingerprint(), other.data->fingerprint()) << name;
  }
}

TEST(Generators, CopyWantsTheSymbolsAgain) {
  const Sample s = make({{"generator", "copy"}, {"length", 3}}, 12).data->sample(0);
  ASSERT_EQ(s.tokens.size(), 6u);
  EXPECT_EQ(s.tokens[3], 63);
  EXPECT_THAT(s.targets, ElementsAre(kNoTarget, kNoTarget, kNoTarget, s.tokens[0], s.tokens[1], s.tokens[2]));
}

TEST(Generators, InductionRepeats) {
  const Sample s = make({{"generator", "induction"}, {"length", 4}}, 12).data->sample(3);
  for (size_t i = 0; i < 12; ++i) {
    if (i >= 4) {
      EXPECT_EQ(s.tokens[i], s.tokens[i - 4]);
      EXPECT_EQ(s.targets[i], s.tokens[i - 3]);
    } else {
      EXPECT_EQ(s.targets[i], kNoTarget);
    }
  }
}

TEST(Generators, MqarAsksForEveryKeyOnce) {
  const Sample s = make({{"generator", "mqar"}, {"pairs", 3}}, 12).data->sample(1);
  ASSERT_EQ(s.tokens.size(), 11u);
  std::set<int32_t> asked;
  for (size_t i = 6; i < 11; i += 2) {
    const auto key = std::find(s.tokens.begin(), s.tokens.begin() + 6, s.tokens[i]);
    ASSERT_NE(key, s.tokens.begin() + 6);
    EXPECT_EQ(s.targets[i], key[1]);
    asked.insert(s.tokens[i]);
  }
  EXPECT_EQ(asked.size(), 3u);
  EXPECT_EQ(s.n_targets(), 3);
}

TEST(Generators, ModularIsRightAndItsPartsShareNoPair) {
  std::set<std::pair<int32_t, int32_t>> pairs[2];
  for (const char* part : {"train", "test"}) {
    const auto made = make({{"generator", "modular"}, {"p", 11}, {"op", "*"}, {"part", part}}, 4);
    ASSERT_EQ(made.error, "");
    for (uint64_t i = 0; i < 300; ++i) {
      const Sample s = made.data->sample(i);
      EXPECT_EQ(s.targets[3], s.tokens[0] * s.tokens[2] % 11);
      pairs[part[1] == 'e'].emplace(s.tokens[0], s.tokens[2]);
    }
  }
  for (const auto& pair : pairs[0]) EXPECT_EQ(pairs[1].count(pair), 0u);
}

TEST(Generators, MarkovHasTheSameChainForEverySeed) {
  std::set<std::pair<int32_t, int32_t>> steps;
  for (const int seed : {1, 2}) {
    const auto made = make({{"generator", "markov"}, {"states", 8}, {"branches", 2}, {"seed", seed}}, 12);
    for (uint64_t i = 0; i < 50; ++i) {
      const Sample s = made.data->sample(i);
      for (size_t k = 0; k < s.tokens.size(); ++k) steps.emplace(s.tokens[k], s.targets[k]);
    }
  }
  EXPECT_LE(steps.size(), 16u);
  EXPECT_THAT(make({{"generator", "markov"}, {"states", 65}}, 12).error, HasSubstr("states is 65; it may be 1 to 64"));
}

}  // namespace data_test
}  // namespace fovea::train
