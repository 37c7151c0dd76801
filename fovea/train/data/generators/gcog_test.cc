// Trials are read back from their tokens and pixels alone and answered by looking at every cell.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <tuple>

#include "fovea/train/data/data.h"

namespace fovea::train {
namespace gcog_test {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Json = nlohmann::ordered_json;

std::unique_ptr<Data> make(Json settings, std::string* error = nullptr, int64_t context = 300, int64_t vocab_size = 0,
                           int64_t n_labels = 0) {
  settings["generator"] = "gcog";
  Settings s(settings, "data");
  auto data = make_data(s, {.vocab_size = vocab_size, .context = context, .seed = 1, .n_labels = n_labels});
  const Status end = s.finish();
  if (error)
    *error = end ? "" : end.error().message;
  else
    EXPECT_TRUE(end.has_value()) << end.error().message;
  return data;
}

struct World {
  int32_t grid = 5, colours = 5, shapes = 5;
  int32_t colour(int32_t i) const { return 2 + grid * grid + i; }
  int32_t shape(int32_t i) const { return colour(colours) + i; }
  int32_t op(int32_t i) const { return shape(shapes) + i; }
  int32_t if_else() const { return op(8); }
  int32_t any() const { return op(9); }
  int32_t end() const { return op(10); }
  int32_t empty() const { return op(11); }
};
enum { kExist, kSumEven, kSumOdd, kProductEven, kProductOdd, kGo, kGetColor, kGetShape };

struct Cell {
  int32_t x, y, colour, shape;
};
struct Trial {
  std::vector<Cell> cells;         // that hold something
  std::vector<int32_t> questions;  // tokens of the tree
};
Trial read(const Sample& sample, const World& w) {
  Trial out;
  const int32_t n = w.grid * w.grid;
  for (int32_t at = 0; at < n; ++at) {
    int32_t colour = -1, shape = -1;
    const auto look = [&](int32_t channel) { return sample.picture->pixels[static_cast<size_t>(channel * n + at)]; };
    if (sample.picture) {
      for (int32_t c = 0; c < w.colours + w.shapes; ++c) {
        if (look(c) == 0) continue;
        EXPECT_EQ(look(c), 1);
        int32_t& of = c < w.colours ? colour : shape;
        EXPECT_EQ(of, -1) << "two in one cell";
        of = c < w.colours ? c : c - w.colours;
      }
      EXPECT_EQ(sample.picture->mask[static_cast<size_t>(at)] > 0, colour >= 0);
    } else if (sample.tokens[static_cast<size_t>(2 * at)] != w.empty()) {
      colour = sample.tokens[static_cast<size_t>(2 * at)] - w.colour(0);
      shape = sample.tokens[static_cast<size_t>(2 * at + 1)] - w.shape(0);
    }
    EXPECT_EQ(colour < 0, shape < 0);
    if (colour >= 0) out.cells.push_back({at % w.grid, at / w.grid, colour, shape});
  }
  out.questions.assign(sample.tokens.begin() + (sample.picture ? 0 : 2 * n), sample.tokens.end());
  return out;
}

struct Node {
  int32_t op, colour, shape;  // -1: any
  std::vector<Cell> found;
};
// The tree that begins at `at`, which goes behind it: its answer. Every operator of it comes into `nodes`.
int32_t execute(const Trial& trial, const World& w, size_t& at, std::vector<Node>& nodes) {
  Node node{trial.questions[at] - w.op(0), trial.questions[at + 1], trial.questions[at + 2], {}};
  at += 3;
  node.colour = node.colour == w.any() ? -1 : node.colour - w.colour(0);
  node.shape = node.shape == w.any() ? -1 : node.shape - w.shape(0);
  for (const Cell& cell : trial.cells) {
    if ((node.colour < 0 || cell.colour == node.colour) && (node.shape < 0 || cell.shape == node.shape))
      node.found.push_back(cell);
  }
  nodes.push_back(node);
  int32_t answer = -1;
  const auto truth = [](bool yes) { return yes ? 0 : 1; };
  EXPECT_LE(node.found.size(), 1u) << "what is asked for is there twice";
  if (node.op == kExist) {
    answer = truth(!node.found.empty());
  } else if (node.found.empty()) {
    ADD_FAILURE() << "what is asked about is not there";
  } else {
    const Cell& one = node.found[0];
    switch (node.op) {
      case kSumEven: answer = truth((one.x + one.y) % 2 == 0); break;
      case kSumOdd: answer = truth((one.x + one.y) % 2 == 1); break;
      case kProductEven: answer = truth((one.x * one.y) % 2 == 0); break;
      case kProductOdd: answer = truth((one.x * one.y) % 2 == 1); break;
      case kGo: answer = 2 + one.y * w.grid + one.x; break;
      case kGetColor: answer = w.colour(one.colour); break;
      default: answer = w.shape(one.shape);
    }
  }
  if (trial.questions[at] != w.if_else()) return answer;
  EXPECT_LE(answer, 1);
  ++at;
  const int32_t then = execute(trial, w, at, nodes), otherwise = execute(trial, w, at, nodes);
  return answer == 0 ? then : otherwise;
}
struct Answered {
  int32_t answer;
  std::vector<Node> nodes;
  size_t n_cells;
};
Answered answer_of(const Sample& sample, const World& w) {
  const Trial trial = read(sample, w);
  Answered out{-1, {}, trial.cells.size()};
  size_t at = 0;
  out.answer = execute(trial, w, at, out.nodes);
  EXPECT_EQ(at + 1, trial.questions.size());
  EXPECT_EQ(trial.questions.back(), w.end());
  return out;
}

TEST(Gcog, AnswersAreThoseOfALookAtEveryCell) {
  int64_t yes = 0, booleans = 0;
  std::map<int32_t, std::pair<int64_t, int64_t>> of;  // true ones and all of an operator
  const auto run = [&](const Json& settings, const World& world, int trials) {
    const auto data = make(settings);
    for (int i = 0; i < trials && !::testing::Test::HasFailure(); ++i) {
      const Sample sample = data->sample(static_cast<uint64_t>(i));
      const Answered found = answer_of(sample, world);
      EXPECT_EQ(found.answer, sample.targets.back());
      EXPECT_EQ(sample.n_targets(), 1);
      if (sample.picture) {
        EXPECT_EQ(found.answer, sample.picture->label);
      }
      if (found.answer <= 1) yes += found.answer == 0, ++booleans;
      if (found.nodes.size() == 1 && found.answer <= 1)
        of[found.nodes[0].op].first += found.answer == 0, ++of[found.nodes[0].op].second;
    }
  };
  run({}, {}, 20000);
  run({{"depth", {1, 3}}, {"form", "tokens"}}, {}, 5000);
  const World large{10, 10, 26};
  run({{"grid", 10}, {"colours", 10}, {"shapes", 26}, {"depth", {1, 3, 5, 7}}, {"distractors", {0, 40}}}, large, 5000);
  // Little room: as many gets as there are shapes for.
  run({{"grid", 8}, {"colours", 4}, {"shapes", 5}, {"depth", {7}}, {"distractors", {10}}}, {8, 4, 5}, 2000);
  EXPECT_NEAR(static_cast<double>(yes) / static_cast<double>(booleans), 0.5, 0.01);
  ASSERT_EQ(of.size(), 5u);
  // 2,500 each at least, four deviations of a fair coin.
  for (const auto& [op, n] : of)
    EXPECT_NEAR(static_cast<double>(n.first) / static_cast<double>(n.second), 0.5, 0.04) << op;
}

TEST(Gcog, HasTheDepthsOperatorsAndDistractorsThatAreAskedFor) {
  const auto data = make({{"depth", {1, 5}}, {"operators", {"exist", "go", "get-shape"}}, {"distractors", {2, 4}}});
  std::set<size_t> sizes, extra;
  std::set<int32_t> inner, last;
  for (uint64_t i = 0; i < 2000; ++i) {
    const Sample sample = data->sample(i);
    const Answered found = answer_of(sample, {});
    sizes.insert(found.nodes.size());
    size_t asked_for = 0;
    for (size_t k = 0; k < found.nodes.size(); ++k) {
      asked_for += found.nodes[k].found.size();
      const bool leaf = found.nodes.size() == 1 || (k != 0 && k != 1 && k != 4);  // as they are asked
      (leaf ? last : inner).insert(found.nodes[k].op);
      for (const Cell& cell : found.nodes[k].found)
        EXPECT_EQ(sample.picture->mask[static_cast<size_t>(cell.y * 5 + cell.x)], k + 1);
    }
    extra.insert(found.n_cells - asked_for);
  }
  EXPECT_THAT(sizes, ElementsAre(1, 7));
  EXPECT_THAT(extra, ElementsAre(2, 3, 4));
  EXPECT_THAT(inner, ElementsAre(kExist));
  EXPECT_THAT(last, ElementsAre(kExist, kGo, kGetShape));
}

using Pair = std::tuple<int32_t, int32_t, int32_t>;  // operator, colour, shape
std::map<Pair, int> pairs_of(const char* split, const char* part, std::set<int32_t>& answers) {
  const auto data = make({{"split", split}, {"part", part}});
  std::map<Pair, int> pairs;
  for (uint64_t i = 0; i < 8000; ++i) {
    const Answered found = answer_of(data->sample(i), {});
    answers.insert(found.answer);
    for (const Node& node : found.nodes) {
      const int32_t colour = node.found.empty() ? node.colour : node.found[0].colour,
                    shape = node.found.empty() ? node.shape : node.found[0].shape;
      ++pairs[{node.op, colour, shape}];
    }
  }
  return pairs;
}

TEST(Gcog, TheSystematicSplitSharesNoPairOfOperatorAndObject) {
  std::set<int32_t> answers, tested;
  const auto train = pairs_of("systematic", "train", answers), test = pairs_of("systematic", "test", tested);
  EXPECT_EQ(train.size() + test.size(), 8u * 25);
  for (const auto& one : test) EXPECT_EQ(train.count(one.first), 0u);
  EXPECT_EQ(answers.size(), 2u + 25 + 10) << "an answer is never seen in training";
  EXPECT_EQ(tested.size(), 2u + 25 + 10);
}

TEST(Gcog, TheReleasedSplitLeaks) {
  std::set<int32_t> answers;
  const auto train = pairs_of("systematic-released", "train", answers),
             test = pairs_of("systematic-released", "test", answers);
  int shared = 0, all = 0;
  for (const auto& [pair, n] : test) {
    const auto [op, colour, shape] = pair;
    // First colours (2 of 5) with the last shapes (from the third on).
    EXPECT_EQ(train.count(pair) > 0, colour < 2 && shape >= 2);
    shared += train.count(pair) > 0 ? n : 0, all += n;
  }
  // 6 of 10 and 6 of 15 pairs.
  EXPECT_NEAR(static_cast<double>(shared) / all, 0.5, 0.03);
}

TEST(Gcog, AtDepth3TheFirstOperatorsMeetOtherLastOnes) {
  std::set<std::pair<int32_t, int32_t>> pairs[2];
  for (const char* part : {"train", "test"}) {
    const auto data = make({{"depth", {3}}, {"split", "systematic"}, {"part", part}});
    for (uint64_t i = 0; i < 2000; ++i) {
      const Answered found = answer_of(data->sample(i), {});
      for (const size_t k : {1, 2}) pairs[part[1] == 'e'].emplace(found.nodes[0].op, found.nodes[k].op);
    }
  }
  EXPECT_EQ(pairs[0].size(), 3u * 4 + 2 * 4);
  EXPECT_EQ(pairs[1].size(), 3u * 4 + 2 * 4);
  for (const auto& pair : pairs[0]) EXPECT_EQ(pairs[1].count(pair), 0u);
  EXPECT_EQ(pairs[0].count({kExist, kGetColor}), 1u);
  EXPECT_EQ(pairs[1].count({kExist, kGo}), 1u);
}

TEST(Gcog, WhatDoesNotFitIsRefusedByName) {
  const auto error = [](const Json& settings, int64_t context = 300, int64_t vocab_size = 0, int64_t n_labels = 0) {
    std::string out;
    make(settings, &out, context, vocab_size, n_labels);
    return out;
  };
  EXPECT_THAT(error({{"depth", {2}}}), HasSubstr("depth has 2; depths are 1, 3, 5 and 7"));
  EXPECT_THAT(error({{"depth", {5}}}), HasSubstr("grid is 5: 7 operators may need as many cells of one parity"));
  EXPECT_THAT(error({{"distractors", {5, 30}}}), HasSubstr("up to 31 objects on 25 cells"));
  EXPECT_THAT(error({{"distractors", {5, 3}}}), HasSubstr("distractors is no list of the least and the most"));
  EXPECT_THAT(error({{"operators", {"exists"}}}), HasSubstr("did you mean exist?"));
  EXPECT_THAT(error({{"operators", {"go"}}, {"depth", {3}}}), HasSubstr("operators leaves nothing to ask"));
  EXPECT_THAT(error({{"split", "systematic"}, {"depth", {1, 3}}}), HasSubstr("split is for one depth, 1 or 3"));
  EXPECT_THAT(error({{"form", "tokens"}}, 53), HasSubstr("gives 54 tokens; the context is 53"));
  EXPECT_THAT(error({}, 300, 48), HasSubstr("gcog has 49 words, and the vocabulary 48"));
  EXPECT_THAT(error({}, 300, 0, 36), HasSubstr("gcog has 37 answers, and the net 36 classes"));
  EXPECT_EQ(error({}, 4, 49, 37), "");
}

TEST(Gcog, IsTheSameEverywhere) {
  const auto data = make({{"depth", {3}}});
  EXPECT_THAT(data->sample(0).tokens, ElementsAre(37, 28, 32, 45, 41, 27, 34, 38, 29, 36, 47));
  EXPECT_EQ(data->sample(0).targets.back(), 0);
  EXPECT_EQ(make({{"depth", {3}}})->sample(5).picture->pixels, data->sample(5).picture->pixels);
}

}  // namespace gcog_test
}  // namespace fovea::train
