#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <vector>

#include "fovea/attention/testing/one_layer.h"

namespace fovea::attention {
namespace token_select_test {

using ::testing::ElementsAreArray;
using ::testing::HasSubstr;

// The keys between the first and the last that the heads vote for at a row, in plain loops: softmaxes of q.k, neither
// turned, over the candidates [begin, end), summed over all heads; the n highest.
std::vector<int32_t> voted(const OneLayer& layer, int32_t q_pos, int32_t begin, int32_t end, int n) {
  Batch batch;
  batch.add(std::vector<int32_t>(static_cast<size_t>(q_pos) + 1, 0), 0, 0);
  const auto [q, k, v] = layer.inputs(batch, 0);
  const auto dim = static_cast<size_t>(layer.shape().head_dim);
  std::vector<double> votes(static_cast<size_t>(end - begin), 0.0);
  for (int head = 0; head < 4; ++head) {
    std::vector<double> of_head(votes.size());
    double sum = 0;
    for (int32_t j = begin; j < end; ++j) {
      double dot = 0;
      for (size_t d = 0; d < dim; ++d)
        dot += static_cast<double>(q.data()[(static_cast<size_t>(q_pos) * 4 + static_cast<size_t>(head)) * dim + d]) *
               static_cast<double>(k.data()[(static_cast<size_t>(j) * 2 + static_cast<size_t>(head / 2)) * dim + d]);
      sum += of_head[static_cast<size_t>(j - begin)] = std::exp(dot);
    }
    for (size_t i = 0; i < votes.size(); ++i) votes[i] += of_head[i] / sum;
  }
  std::vector<int32_t> order(votes.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(),
            [&](int32_t a, int32_t b) { return votes[static_cast<size_t>(a)] > votes[static_cast<size_t>(b)]; });
  order.resize(static_cast<size_t>(n));
  std::sort(order.begin(), order.end());
  for (int32_t& position : order) position += begin;
  return order;
}

TEST(TokenSelect, ReadsFirstKeysThoseVotedForAndLastOnesAtCompactedPositions) {
  OneLayer layer("token-select:n_init=3:n_local=5:top_k=7:score_rope=none:theta=2");
  SeenKeys seen(2);
  layer.observers = {&seen};
  layer.feed(15);  // all of these fit
  layer.observers.clear();
  for (int32_t row = 15; row < 60; ++row) {
    layer.observers = {&seen};
    const std::vector<float> z = layer.feed(1, /*decoding=*/true);
    std::vector<int32_t> list = {0, 1, 2};
    const std::vector<int32_t> chosen = voted(layer, row, 3, row + 1 - 5, 7);
    list.insert(list.end(), chosen.begin(), chosen.end());
    for (int32_t key = row - 4; key <= row; ++key) list.push_back(key);
    std::vector<int32_t> found = seen.of_row(row);
    std::sort(found.begin(), found.end());
    ASSERT_THAT(found, ElementsAreArray(list)) << row;
    // The key in place m of a list of n seems to stand there, the query at its end.
    const auto place = [&](int32_t key) {
      return static_cast<int32_t>(std::find(list.begin(), list.end(), key) - list.begin());
    };
    const auto sees = [&](int32_t key) { return std::binary_search(list.begin(), list.end(), key); };
    const auto stands = [&](int32_t key) { return key + 15 - 1 - place(key); };
    for (int head = 0; head < 4; ++head)
      layer.expect_head(z, 0, head, layer.weighed(head, layer.pattern_at(head, row, sees, stands)), 3e-5);
  }
}

TEST(TokenSelect, ReadsEverythingWhileItFits) {
  OneLayer layer("token-select:n_init=3:n_local=5:top_k=7"), dense;
  EXPECT_EQ(layer.feed(15), dense.feed(15));
}

TEST(TokenSelect, AChunkSharesItsSelectionAndSeesItselfCausally) {
  OneLayer layer("token-select:n_init=2:n_local=4:top_k=6:chunk=8:positions=original");
  std::vector<SeenKeys> seen = {SeenKeys(0), SeenKeys(3)};
  layer.observers = {&seen[0], &seen[1]};
  layer.feed(48);
  for (int32_t row = 40; row < 48; ++row) {
    for (SeenKeys& head : seen) {
      std::vector<int32_t> keys = head.of_row(row);
      std::sort(keys.begin(), keys.end());
      EXPECT_EQ(keys.back(), row);
      EXPECT_EQ(keys.size(), 2u + 6u + static_cast<size_t>(row - 40) + 1u);
      std::vector<int32_t> of_first = seen[0].of_row(40);
      std::sort(of_first.begin(), of_first.end());
      EXPECT_TRUE(std::equal(of_first.begin(), of_first.begin() + 8, keys.begin()));
    }
  }
}

// Key head 1 has a spike in a direction that only its query heads look at: a wrong map of heads would miss it.
TEST(TokenSelect, QueryHeadsVoteWithTheirOwnKeyHead) {
  OneLayer layer("token-select:n_init=1:n_local=4:top_k=1:chunk=1:score_rope=none");
  const ModelShape& shape = layer.shape();
  Batch batch;
  batch.add(std::vector<int32_t>(40, 0), 0, 0);
  tensor::Tensor q = tensor::Tensor::zeros({40, 4, shape.head_dim}), k = tensor::Tensor::zeros({40, 2, shape.head_dim}),
                 v = tensor::Tensor::zeros({40, 2, shape.head_dim});
  for (int64_t row = 0; row < 40; ++row) {
    for (int head = 2; head < 4; ++head) q.data()[(row * 4 + head) * shape.head_dim + 5] = 4;
  }
  k.data()[(17 * 2 + 1) * shape.head_dim + 5] = 8;   // the right one
  k.data()[(23 * 2 + 0) * shape.head_dim + 5] = 80;  // of the other head
  SeenKeys seen(0);
  layer.observers = {&seen};
  Attend attend({.model = shape,
                 .ropes = {&layer.rope(), 1},
                 .batch = batch,
                 .cache = &layer.cache,
                 .pipeline = &layer.pipeline,
                 .hooks = &layer.hooks,
                 .observers = layer.observers});
  attend(0, {q, k, v});
  std::vector<int32_t> keys = seen.of_row(39);
  std::sort(keys.begin(), keys.end());
  EXPECT_EQ(keys[0], 0);
  EXPECT_EQ(keys[1], 17);
}

TEST(TokenSelect, ReusesTheSelectionWhileQueriesAreAlike) {
  const auto seen_by = [](const std::string& theta) {
    OneLayer layer("token-select:n_init=1:n_local=4:top_k=3:theta=" + theta);
    SeenKeys seen(1);
    layer.observers = {&seen};
    layer.feed(30);
    std::vector<std::vector<int32_t>> out;
    for (int32_t row = 30; row < 40; ++row) {
      layer.feed(1, /*decoding=*/true);
      std::vector<int32_t> keys = seen.of_row(row);
      std::erase_if(keys, [row](int32_t key) { return key == 0 || key > row - 4; });
      out.push_back(keys);
    }
    return out;
  };
  const auto kept = seen_by("-1"), fresh = seen_by("2");
  for (const auto& keys : kept) EXPECT_EQ(keys, kept[0]);
  EXPECT_EQ(kept[0], fresh[0]);
  EXPECT_NE(kept, fresh);
}

TEST(TokenSelect, GoesBackToAPrefix) {
  OneLayer layer("token-select:n_init=2:n_local=4:top_k=6:chunk=4:theta=2"),
      straight("token-select:n_init=2:n_local=4:top_k=6:chunk=4:theta=2");
  straight.feed(40);
  layer.feed(80);
  layer.pipeline.truncate(0, 40);
  layer.truncate(0, 40);
  for (int i = 0; i < 30; ++i) EXPECT_EQ(layer.feed(1, true), straight.feed(1, true)) << i;
}

TEST(TokenSelect, RefusesAnEvenPoolAndNamesIt) {
  const auto parsed = Pipeline::parse("token-select:pool=4", OneLayer::small_shape());
  ASSERT_FALSE(parsed.has_value());
  EXPECT_THAT(parsed.error().message, HasSubstr("pool 4"));
}

}  // namespace token_select_test
}  // namespace fovea::attention
