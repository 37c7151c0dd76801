#include "fovea/probe/measures/retrieval.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "fovea/base/testing/paths.h"
#include "fovea/engine/session.h"
#include "fovea/kernels/vector.h"

namespace fovea::probe {
namespace retrieval_test {

using ::testing::Each;
using ::testing::ElementsAre;

constexpr int kLayers = 6, kHeads = 4;
const attention::ModelShape kShape{.n_layers = kLayers, .n_heads = kHeads, .n_kv_heads = 2};

// Feeds one row of `n_keys` whose mass lies on `peak`.
void show(attention::RowObserver& observer, int layer, int head, int32_t n_keys, int32_t peak) {
  std::vector<float> row(static_cast<size_t>(n_keys), 0.1f / static_cast<float>(n_keys));
  row[static_cast<size_t>(peak)] += 0.9f;
  std::vector<int32_t> positions(row.size());
  std::iota(positions.begin(), positions.end(), 0);
  const std::vector<int32_t> q_pos = {n_keys - 1};
  const attention::Call view{kShape, layer, 0, q_pos, attention::Phase::kDecode, nullptr};
  observer.see({view, head, q_pos[0], positions}, row);
}

size_t id(int layer, int head) { return static_cast<size_t>(layer * kHeads + head); }

// The prompt is 20 tokens, the needle 6 of them at [8, 14); the model answers with the needle.
// Head (2,3) looks at the right token at each step, (4,1) at every second step, (5,0) into the needle
// but at the next token, (3,3) always at the same needle token; every other head looks at the sink.
struct Planted {
  std::vector<int32_t> prompt;
  tasks::TokenSpan needle{8, 14};
  CopyTrace trace;
};
Planted planted(int top_k = 1) {
  Planted p;
  p.prompt.resize(20);
  std::iota(p.prompt.begin(), p.prompt.end(), 100);
  TopKeys keys(kLayers, kHeads, top_k);
  p.trace = keys.new_trace();
  for (int32_t step = 0; step < 6; ++step) {
    const int32_t n_keys = 20 + step, right = 8 + step;
    for (int layer = 0; layer < kLayers; ++layer) {
      for (int head = 0; head < kHeads; ++head) {
        int32_t peak = 0;
        if (id(layer, head) == id(2, 3)) peak = right;
        if (id(layer, head) == id(4, 1) && step % 2 == 0) peak = right;
        if (id(layer, head) == id(5, 0)) peak = 8 + (step + 1) % 6;
        if (id(layer, head) == id(3, 3)) peak = 8;
        show(keys, layer, head, n_keys, peak);
      }
    }
    keys.take(100 + right, p.trace);
  }
  return p;
}

TEST(RetrievalScores, OfPlantedHeadsAreExact) {
  const Planted p = planted();
  std::vector<double> expected(kLayers * kHeads, 0.0);
  expected[id(2, 3)] = 1.0;
  expected[id(4, 1)] = 0.5;
  expected[id(3, 3)] = 1.0 / 6;  // its one token is right once
  EXPECT_EQ(retrieval_scores(p.trace, p.prompt, p.needle), expected);
  EXPECT_EQ(retrieval_scores(p.trace, p.prompt, p.needle, ScoreVariant::kCode), expected);
}

TEST(RetrievalScores, WithTheNeedleElsewhereAreZero) {
  const Planted p = planted();
  EXPECT_THAT(retrieval_scores(p.trace, p.prompt, {1, 7}), Each(0.0));
}

TEST(RetrievalScores, CountAPositionOnceAndTheAuthorsVariantEveryTime) {
  TopKeys keys(kLayers, kHeads);
  CopyTrace trace = keys.new_trace();
  for (int step = 0; step < 3; ++step) {
    show(keys, 0, 0, 10, 4);
    keys.take(7, trace);
  }
  const std::vector<int32_t> prompt = {1, 1, 1, 1, 7, 8, 1, 1, 1, 1};
  EXPECT_EQ(retrieval_scores(trace, prompt, {4, 6})[0], 0.5);
  EXPECT_EQ(retrieval_scores(trace, prompt, {4, 6}, ScoreVariant::kCode)[0], 1.5);
}

TEST(RetrievalScores, SeeTheSecondKeyWhenAskedForTwo) {
  TopKeys keys(kLayers, kHeads, 2);
  CopyTrace trace = keys.new_trace();
  show(keys, 0, 0, 10, 4);  // every other key is equal: the second is the lowest position
  keys.take(5, trace);
  EXPECT_THAT(std::vector<int32_t>(trace.keys.begin(), trace.keys.begin() + 2), ElementsAre(4, 0));
  const std::vector<int32_t> prompt = {5, 6, 1, 1, 7, 8, 1, 1, 1, 1};
  EXPECT_EQ(retrieval_scores(trace, prompt, {0, 2})[0], 0.5);
}

TEST(TopKeys, OfEqualKeysTakesTheLowestPosition) {
  TopKeys keys(kLayers, kHeads);
  const std::vector<float> row = {0.1f, 0.3f, 0.3f, 0.3f};
  const std::vector<int32_t> positions = {0, 1, 2, 3}, q_pos = {3};
  const attention::Call view{kShape, 1, 0, q_pos, attention::Phase::kDecode, nullptr};
  keys.see({view, 2, 3, positions}, row);
  CopyTrace trace = keys.new_trace();
  keys.take(9, trace);
  EXPECT_EQ(trace.keys[id(1, 2)], 1);
  EXPECT_EQ(trace.keys[id(1, 3)], -1);  // was shown no row
}

TEST(LocateNeedle, TakesTheFirstWindowThatHoldsNineTenthsOfItsTokens) {
  const std::vector<int32_t> needle = {10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20};
  std::vector<int32_t> prompt(30, 1);
  std::copy(needle.begin(), needle.end(), prompt.begin() + 12);
  prompt[12] = 99;  // cut differently at its edge
  const auto span = tasks::locate_needle(prompt, needle);
  ASSERT_TRUE(span.has_value());
  EXPECT_EQ(span->end - span->begin, 11);
  EXPECT_EQ(span->begin, 12);
  prompt[13] = 99;  // 9 of 11 are too few
  EXPECT_FALSE(tasks::locate_needle(prompt, needle).has_value());
  EXPECT_FALSE(tasks::locate_needle(std::span(prompt).first(5), needle).has_value());
}

TEST(TopKeys, ChangeNoBitOfTheAnswer) {
  const auto model = engine::Model::load(source_dir() + "/tests/data/tiny-llama.gguf");
  ASSERT_TRUE(model.has_value()) << model.error().message;
  std::vector<std::vector<float>> logits;
  for (const bool watched : {false, true}) {
    const auto session = engine::Session::create(*model, {});
    ASSERT_TRUE(session.has_value()) << session.error().message;
    engine::Session& s = **session;
    TopKeys keys(s.shape().n_layers, s.shape().n_heads);
    if (watched) s.observe(&keys);
    const engine::SequenceId sequence = s.begin();
    ASSERT_TRUE(s.prefill(sequence, std::vector<int32_t>{3, 4, 5, 6, 7}).has_value());
    CopyTrace trace = keys.new_trace();
    for (const int32_t token : {8, 9, 10}) {
      const engine::Session::Step step{sequence, token};
      const auto next = s.decode({&step, 1});
      ASSERT_TRUE(next.has_value()) << next.error().message;
      logits.emplace_back(next->values().begin(), next->values().end());
      keys.take(token, trace);
    }
    // Every head was seen at every step, and looked at a key that was there.
    for (size_t i = 0; watched && i < trace.keys.size(); ++i) {
      EXPECT_GE(trace.keys[i], 0);
      EXPECT_LT(trace.keys[i], 8);
    }
  }
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(logits[i], logits[i + 3]);
}

}  // namespace retrieval_test
}  // namespace fovea::probe
