// PINE on whole models: what a session gives does not depend on the order of the segments, and depends on it without.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "fovea/engine/testing/golden.h"

namespace fovea::engine {
namespace pine_order_test {

using ::testing::HasSubstr;

// Prompt and spans of three segments in some order.
struct Prompt {
  std::vector<int32_t> ids = {1, 4, 9, 20};
  std::vector<attention::Span> spans;

  explicit Prompt(const std::vector<int>& order) {
    for (size_t i = 0; i < order.size(); ++i) {
      const auto begin = static_cast<int32_t>(ids.size());
      for (int j = 0; j < 9 + 6 * order[i]; ++j) ids.push_back(5 + (j * j + 13 * order[i] + 3 * j) % 50);
      spans.push_back({"segment " + std::to_string(i), begin, static_cast<int32_t>(ids.size())});
    }
    ids.insert(ids.end(), {7, 30, 22, 8});
  }
};

Rows answer(const std::string& model, const std::string& attention, const std::vector<int>& order, int chunk = 512) {
  SessionOptions options{.numerics = kernels::Numerics::kExact};
  options.attention = attention;
  options.chunk = chunk;
  const auto session = make_session(load_model(test_data(model)), options);
  const Prompt prompt(order);
  const SequenceId sequence = session->begin();
  session->set_spans(sequence, prompt.spans);
  Rows rows = {prefill(*session, sequence, prompt.ids).back()};
  for (int i = 0; i < 20; ++i) {
    const auto best = std::max_element(rows.back().begin(), rows.back().end());
    rows.push_back(decode(*session, sequence, static_cast<int32_t>(best - rows.back().begin())));
  }
  return rows;
}

// The furthest that logits lie apart over all orders of the segments.
double spread(const std::string& model, const std::string& attention) {
  std::vector<int> order = {0, 1, 2};
  const Rows first = answer(model, attention, order);
  double worst = 0;
  while (std::next_permutation(order.begin(), order.end())) {
    const Rows other = answer(model, attention, order);
    for (size_t t = 0; t < first.size(); ++t) {
      for (size_t i = 0; i < first[t].size(); ++i)
        worst = std::max(worst, std::abs(static_cast<double>(first[t][i]) - static_cast<double>(other[t][i])));
    }
  }
  return worst;
}

TEST(PineOrder, NoOrderOfTheSegmentsChangesWhatIsSaid) {
  for (const char* model : {"tiny-llama.gguf", "tiny-qwen2.gguf"}) {
    for (const char* same : {"pine", "pine:order=reverse", "pine:order=none", "pine:between=off"})
      EXPECT_LT(spread(model, same), 1e-3) << model << " " << same;
  }
}

TEST(PineOrder, WithoutItOrWithOrdersOfThePromptItDoes) {
  for (const char* model : {"tiny-llama.gguf", "tiny-qwen2.gguf"}) {
    for (const char* other : {"dense", "pine:order=prompt", "pine:order=random", "pine:heads=0"})
      EXPECT_GT(spread(model, other), 1e-2) << model << " " << other;
  }
}

TEST(PineOrder, SegmentsAreReadInOnePassWhateverTheChunk) {
  const Rows whole = answer("tiny-llama.gguf", "pine", {2, 0, 1});
  for (const int chunk : {1, 5, 20}) EXPECT_EQ(answer("tiny-llama.gguf", "pine", {2, 0, 1}, chunk), whole) << chunk;
}

TEST(PineOrder, RefusesATextWithoutSegmentsAndOneThatEndsInThem) {
  SessionOptions options;
  options.attention = "pine";
  const auto session = make_session(load_model(test_data("tiny-llama.gguf")), options);
  const Prompt prompt({0, 1, 2});
  const SequenceId sequence = session->begin();
  const auto bare = session->prefill(sequence, prompt.ids);
  ASSERT_FALSE(bare.has_value());
  EXPECT_EQ(bare.error().code, ErrorCode::kUsage);
  EXPECT_THAT(bare.error().message, HasSubstr("no segments"));
  session->set_spans(sequence, prompt.spans);
  const auto cut = session->prefill(sequence, std::span(prompt.ids).first(30));
  ASSERT_FALSE(cut.has_value());
  EXPECT_THAT(cut.error().message, HasSubstr("tokens 4 to 48 are read in one pass"));
  EXPECT_TRUE(session->prefill(sequence, prompt.ids).has_value());
}

}  // namespace pine_order_test
}  // namespace fovea::engine
