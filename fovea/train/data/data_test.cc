#include "fovea/train/data/data.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>

#include "fovea/base/file.h"
#include "fovea/base/testing/paths.h"
#include "fovea/engine/vocabulary.h"
#include "fovea/formats/source.h"

namespace fovea::train {
namespace data_test {

using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
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
  EXPECT_THAT(make(nlohmann::ordered_json::object(), 4).error,
              HasSubstr("data are one of generator, image_folder, images, jsonl"));
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

TEST(JsonlData, OfAChatTheAssistantsWordsAreLearnt) {
  const auto source = formats::open_model(source_dir() + "/tests/data/tiny-qwen2.gguf");
  ASSERT_TRUE(source.has_value()) << source.error().message;
  const auto tokenizer = engine::load_tokenizer(**source);
  ASSERT_TRUE(tokenizer.has_value()) << tokenizer.error().message;
  const std::string path = ::testing::TempDir() + "chat.jsonl";
  const auto data = [&](const std::string& line) {
    EXPECT_TRUE(write_file_atomic(path, line).has_value());
    Settings s({{"jsonl", path}}, "data");
    Made made{.data = make_data(s, {.tokenizer = tokenizer->get(),
                                    .source = source->get(),
                                    .vocab_size = (*tokenizer)->vocab_size(),
                                    .context = 500}),
              .error = ""};
    if (const Status end = s.finish(); !end) made.error = end.error().message;
    return made;
  };
  const Made made = data(
      "{\"messages\": [{\"role\": \"user\", \"content\": \"Say <|im_end|> twice\"}, {\"role\": \"assistant\", "
      "\"content\": \"no\"}, {\"role\": \"user\", \"content\": \"why\"}, {\"role\": \"assistant\", \"content\": "
      "\"so\"}]}\n");
  ASSERT_EQ(made.error, "");
  const Sample sample = made.data->sample(0);
  const int32_t end = (*tokenizer)->find_special("<|im_end|>").at(0).id;
  std::string learnt;
  for (const int32_t id : sample.targets) {
    if (id != kNoTarget) learnt += id == end ? "|" : std::string((*tokenizer)->piece(id));
  }
  EXPECT_EQ(learnt, "no|so|");
  for (size_t i = 0; i + 1 < sample.tokens.size(); ++i) {  // each where it is read next
    if (sample.targets[i] != kNoTarget) {
      EXPECT_EQ(sample.targets[i], sample.tokens[i + 1]) << i;
    }
  }
  EXPECT_THAT(data("{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}]}\n").error,
              HasSubstr("line 1: the assistant says nothing in it"));
  EXPECT_THAT(data("{\"messages\": [{\"role\": 1}]}\n").error, HasSubstr("line 1: messages[0].role must be a string"));
  EXPECT_THAT(data("{\"messages\": [{\"role\": \"user\"}], \"tools\": 3}\n").error,
              HasSubstr("line 1: tools must be a list"));
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
    const bool text = name == "codes" || name == "passkey-words";  // bytes, where there is no tokenizer
    const int64_t context = text ? 400 : 12, words = text ? 128 : 64;
    const auto of_seed = [&](int seed) {
      nlohmann::ordered_json settings = {{"generator", name}, {"seed", seed}};
      if (name == "passkey-words") settings["keys"] = 1, settings["words"] = 2;
      return make(settings, context, words);
    };
    const auto one = of_seed(5), two = of_seed(5), other = of_seed(6);
    ASSERT_EQ(one.error, "") << name;
    for (uint64_t i : {0, 7, 1000}) {
      const Sample sample = one.data->sample(i);
      EXPECT_EQ(sample.tokens, two.data->sample(i).tokens) << name;
      EXPECT_EQ(sample.tokens.size(), sample.targets.size()) << name;
      EXPECT_LE(static_cast<int64_t>(sample.tokens.size()), context) << name;
      const Picture* picture = sample.picture.get();
      EXPECT_TRUE(sample.n_targets() > 0 || (picture && (picture->label >= 0 || !picture->noise.empty()))) << name;
      for (const int32_t id : sample.tokens) EXPECT_TRUE(id >= 0 && id < words) << name;
      for (const int32_t id : sample.targets) EXPECT_TRUE(id == kNoTarget || (id >= 0 && id < words)) << name;
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

TEST(Generators, AContextOfOneTokenHasNoRoomToRepeat) {
  for (const char* name : {"copy", "sorting", "induction"}) {
    EXPECT_THAT(make({{"generator", name}}, 1).error, HasSubstr("needs a context of 2 or more")) << name;
    const Made two = make({{"generator", name}}, 2);
    ASSERT_EQ(two.error, "");
    EXPECT_LE(two.data->sample(0).tokens.size(), 2u) << name;
    EXPECT_GT(two.data->sample(0).n_targets(), 0) << name;
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

TEST(Generators, SortingWantsTheNumbersInOrder) {
  for (const bool distinct : {false, true}) {
    const auto made = make({{"generator", "sorting"}, {"length", 5}, {"values", 6}, {"distinct", distinct}}, 12);
    for (uint64_t i = 0; i < 50; ++i) {
      const Sample s = made.data->sample(i);
      ASSERT_EQ(s.tokens.size(), 10u);
      EXPECT_EQ(s.tokens[5], 63);
      std::vector<int32_t> drawn(s.tokens.begin(), s.tokens.begin() + 5);
      std::sort(drawn.begin(), drawn.end());
      EXPECT_THAT(std::vector<int32_t>(s.targets.begin() + 5, s.targets.end()), ElementsAreArray(drawn));
      EXPECT_EQ(s.n_targets(), 5);
      if (distinct) {
        EXPECT_EQ(std::set<int32_t>(drawn.begin(), drawn.end()).size(), 5u);
      }
    }
  }
  EXPECT_THAT(make({{"generator", "sorting"}, {"values", 3}, {"distinct", true}, {"length", 4}}, 12).error,
              HasSubstr("length is 4; it may be 1 to 3"));
}

TEST(Generators, PasskeyAsksForANumberThatItTold) {
  for (const double depth : {-1.0, 0.0, 0.5, 1.0}) {
    const auto made = make({{"generator", "passkey"}, {"keys", 3}, {"digits", 4}, {"depth", depth}}, 60);
    ASSERT_EQ(made.error, "");
    for (uint64_t i = 0; i < 50; ++i) {
      const Sample s = made.data->sample(i);
      ASSERT_EQ(s.tokens.size(), 60u);
      EXPECT_EQ(s.n_targets(), 4);
      const auto question = std::find(s.tokens.begin(), s.tokens.end(), 62);
      ASSERT_EQ(s.tokens.end() - question, 5);  // the question, a name and all digits but the last
      const std::vector<int32_t> told = {63, question[1]};
      const auto key = std::search(s.tokens.begin(), question, told.begin(), told.end());
      ASSERT_NE(key, question);
      EXPECT_THAT(std::vector<int32_t>(s.targets.end() - 4, s.targets.end()), ElementsAreArray(key + 2, key + 6));
      EXPECT_EQ(std::count(s.tokens.begin(), s.tokens.end(), 63), 3);
      const int64_t before = std::count_if(s.tokens.begin(), key, [](int32_t id) { return id >= 13 && id < 62; });
      if (depth >= 0) {
        EXPECT_EQ(before, std::llround(depth * 37)) << depth;  // 61 less 3 * 6 and 6
      }
    }
  }
  EXPECT_THAT(make({{"generator", "passkey"}}, 7).error, HasSubstr("passkey needs a context of 8"));
}

TEST(Generators, Match3IsWhatAllTriplesSay) {
  const auto made = make({{"generator", "match3"}, {"length", 8}, {"modulus", 47}}, 12);
  int64_t ones = 0, all = 0;
  for (uint64_t i = 0; i < 200; ++i) {
    const Sample s = made.data->sample(i);
    ASSERT_EQ(s.tokens.size(), 8u);
    for (size_t a = 0; a < 8; ++a) {
      bool found = false;
      for (size_t b = 0; b < 8; ++b) {
        for (size_t c = 0; c < 8; ++c)
          found |= a != b && a != c && b != c && (s.tokens[a] + s.tokens[b] + s.tokens[c]) % 47 == 0;
      }
      EXPECT_EQ(s.targets[a], found ? 1 : 0);
      ones += found, ++all;
    }
  }
  EXPECT_NEAR(static_cast<double>(ones) / static_cast<double>(all), 0.4, 0.15);
}

TEST(Generators, ItemLabelAsksForWhatTheContextOrTheItemTells) {
  for (const double fixed : {0.0, 1.0}) {
    const auto made = make({{"generator", "item-label"}, {"items", 3}, {"labels", 4}, {"fixed", fixed}}, 15);
    ASSERT_EQ(made.error, "");
    std::map<int32_t, std::set<int32_t>> of_all;
    for (uint64_t i = 0; i < 100; ++i) {
      const Sample s = made.data->sample(i);
      ASSERT_EQ(s.tokens.size(), 15u);
      std::map<int32_t, int32_t> labels;
      for (size_t at = 0; at < 15; at += 2) {
        const int32_t item = s.tokens[at];
        EXPECT_LT(item, 32);
        if (fixed == 0) {
          EXPECT_EQ(s.targets[at] != kNoTarget, labels.count(item) == 1);
        }
        if (s.targets[at] == kNoTarget) {
          if (at < 14) labels.emplace(item, s.tokens[at + 1]);
          continue;
        }
        EXPECT_EQ(labels.emplace(item, s.targets[at]).first->second, s.targets[at]);
        EXPECT_TRUE(s.targets[at] >= 32 && s.targets[at] < 36);
        of_all[item].insert(s.targets[at]);
      }
    }
    size_t most = 0;
    for (const auto& [item, seen] : of_all) most = std::max(most, seen.size());
    EXPECT_EQ(most == 1, fixed == 1) << fixed;
  }
  // Often the first items, and yet as many different ones as were asked for.
  const Sample s = make({{"generator", "item-label"}, {"items", 5}, {"zipf", 8}}, 12).data->sample(0);
  EXPECT_EQ(std::set<int32_t>({s.tokens[0], s.tokens[2], s.tokens[4], s.tokens[6], s.tokens[8]}).size(), 5u);
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

TEST(MarkovData, BehindATriggerStandsWhatStoodBeforeIt) {
  const nlohmann::ordered_json of = {{"generator", "markov"}, {"states", 8}, {"triggers", 2}, {"begin", true}};
  const auto made = make(of, 12);
  ASSERT_EQ(made.error, "");
  int n_triggers = 0;
  for (uint64_t i = 0; i < 50; ++i) {
    const Sample s = made.data->sample(i);
    EXPECT_EQ(s.tokens[0], 8);
    for (size_t k = 1; k < s.tokens.size(); ++k) {
      EXPECT_LT(s.targets[k], 8);
      if (k < 2 || s.tokens[k] >= 2) continue;
      EXPECT_EQ(s.targets[k], s.tokens[k - 1]);
      ++n_triggers;
    }
  }
  EXPECT_GT(n_triggers, 20);
  EXPECT_THAT(make({{"generator", "markov"}, {"states", 64}, {"begin", true}}, 12).error,
              HasSubstr("states is 64; it may be 1 to 63"));
  EXPECT_THAT(make({{"generator", "markov"}, {"states", 8}, {"triggers", 9}}, 12).error,
              HasSubstr("triggers is 9; it may be 0 to 8"));
}

TEST(MixData, DrawsItsPartsAsOftenAsTheirWeightsSay) {
  const nlohmann::ordered_json parts = {{{"tokens", npy("mix.npy", counted(22))}, {"weight", 3}},
                                        {{"generator", "induction"}, {"length", 2}, {"symbols", 2}}};  // a weight of 1
  const Made made = make({{"mix", parts}, {"seed", 7}}, 4), again = make({{"mix", parts}, {"seed", 7}}, 4),
             other = make({{"mix", parts}, {"seed", 8}}, 4);
  ASSERT_EQ(made.error, "");
  EXPECT_EQ(made.data->size(), Data::kEndless);
  EXPECT_EQ(made.data->fingerprint(), again.data->fingerprint());
  EXPECT_NE(made.data->fingerprint(), other.data->fingerprint());
  int n_runs = 0, n_other = 0;
  std::set<int32_t> begins;
  constexpr uint64_t kSamples = 4000;
  for (uint64_t i = kSamples; i-- > 0;) {  // a sample depends on its number alone
    const Sample one = made.data->sample(i);
    EXPECT_EQ(one.tokens, again.data->sample(i).tokens);
    EXPECT_EQ(one.tokens, made.data->sequential(i).tokens);
    n_other += one.tokens != other.data->sample(i).tokens;
    if (one.targets[0] == kNoTarget) continue;
    ++n_runs;
    begins.insert(one.tokens[0]);
    EXPECT_EQ(one.targets[3], one.tokens[0] + 4);
  }
  EXPECT_NEAR(n_runs, 3000, 110);  // four deviations
  EXPECT_THAT(begins, ElementsAre(0, 4, 8, 12, 16));
  EXPECT_GT(n_other, 2000);
}

TEST(MixData, OtherTokensInAPartAreOtherData) {
  const auto of = [](const std::string& file) {
    return make({{"mix", {{{"tokens", file}}, {{"generator", "copy"}}}}}, 4).data->fingerprint();
  };
  EXPECT_NE(of(npy("mix-a.npy", counted(22))), of(npy("mix-b.npy", counted(23))));
}

TEST(MixData, SaysWhatShareOfTheSamplesEachPartHas) {
  const auto made = make({{"mix", {{{"generator", "copy"}, {"weight", 3}}, {{"generator", "sorting"}}}}}, 6);
  ASSERT_EQ(made.error, "");
  EXPECT_THAT(made.data->summary(), HasSubstr("a mix: 75 % {"));
  EXPECT_THAT(made.data->summary(), HasSubstr("; 25 % {"));
}

TEST(MixData, WhatIsWrongInAPartIsNamed) {
  const auto error = [](const nlohmann::ordered_json& mix) { return make({{"mix", mix}}, 4).error; };
  const nlohmann::ordered_json copy = {{"generator", "copy"}};
  EXPECT_THAT(error(nlohmann::ordered_json::array({copy})), HasSubstr("mix is a list of data, of two kinds or more"));
  EXPECT_THAT(error(copy), HasSubstr("mix is an object; a list of objects is needed"));
  EXPECT_THAT(error({copy, {{"generator", "copy"}, {"weight", 0}}}), HasSubstr("mix[1].weight is 0"));
  EXPECT_THAT(error({copy, {{"generator", "copi"}}}), HasSubstr("did you mean copy?"));
  EXPECT_THAT(error({copy, {{"generator", "copy"}, {"wieght", 2}}}), HasSubstr("mix[1].wieght is no setting here"));
  const auto scenes = [](int size) { return nlohmann::ordered_json{{"generator", "scenes"}, {"size", size}}; };
  EXPECT_THAT(error({copy, scenes(16)}), HasSubstr("mix[1] gives other pictures than the first part"));
  EXPECT_THAT(error({scenes(16), scenes(32)}), HasSubstr("mix[1] gives other pictures than the first part"));
  EXPECT_EQ(error({scenes(16), {{"generator", "scenes"}, {"size", 16}, {"words", "phrase"}}}), "");
  EXPECT_THAT(error({copy, {{"text", "a.txt"}}}), HasSubstr("needs a tokenizer"));
}

}  // namespace data_test
}  // namespace fovea::train
