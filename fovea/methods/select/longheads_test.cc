#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "fovea/attention/testing/one_layer.h"

namespace fovea::attention {
namespace longheads_test {

using ::testing::ElementsAreArray;
using ::testing::HasSubstr;

constexpr int kChunk = 32;

// In plain loops: the key of a chunk for a query head. `pooled`: by attention, else the mean key.
std::vector<double> key_of(const OneLayer& layer, int chunk, int head, bool pooled) {
  Batch batch;
  batch.add(std::vector<int32_t>(kChunk, 0), chunk * kChunk, 0);
  const auto [q, k, v] = layer.inputs(batch, 0);
  std::vector<int32_t> local(kChunk);
  std::iota(local.begin(), local.end(), 0);
  const tensor::Tensor ql = tensor::rope(q, local, layer.rope()), kl = tensor::rope(k, local, layer.rope());
  const auto dim = static_cast<size_t>(layer.shape().head_dim);
  const auto at = [&](const tensor::Tensor& x, int row, int h) { return x.data() + (row * x.dim(1) + h) * x.dim(2); };
  const auto softmax_over_keys = [&](const auto& query) {
    std::vector<double> weights(kChunk);
    double sum = 0;
    for (int j = 0; j < kChunk; ++j) {
      double dot = 0;
      for (size_t d = 0; d < dim; ++d)
        dot += static_cast<double>(query[d]) * static_cast<double>(at(kl, j, head / 2)[d]);
      sum += weights[static_cast<size_t>(j)] = std::exp(dot / std::sqrt(static_cast<double>(dim)));
    }
    for (double& w : weights) w /= sum;
    return weights;
  };
  std::vector<double> weights(kChunk, 1.0 / kChunk);
  if (pooled) {
    std::vector<double> mean(dim, 0);
    for (int i = 0; i < kChunk; ++i) {
      const std::vector<double> row = softmax_over_keys(at(ql, i, head));
      for (int j = 0; j < kChunk; ++j) {
        for (size_t d = 0; d < dim; ++d)
          mean[d] += row[static_cast<size_t>(j)] * static_cast<double>(at(v, j, head / 2)[d]) / kChunk;
      }
    }
    weights = softmax_over_keys(mean);
  }
  std::vector<double> key(dim, 0);
  for (int j = 0; j < kChunk; ++j) {
    for (size_t d = 0; d < dim; ++d)
      key[d] += weights[static_cast<size_t>(j)] * static_cast<double>(at(kl, j, head / 2)[d]);
  }
  return key;
}

// The chunks that a head's row reads, its own last.
std::vector<int32_t> chunks_of(const OneLayer& layer, int head, int32_t row, int n_chunks, bool pooled) {
  Batch batch;
  batch.add(std::vector<int32_t>(1, 0), row, 0);
  const tensor::Tensor q = layer.inputs(batch, 0)[0];
  const int32_t own = row / kChunk;
  std::vector<int32_t> all(static_cast<size_t>(own) + 1);
  std::iota(all.begin(), all.end(), 0);
  if (own + 1 <= n_chunks) return all;
  std::vector<double> scores;
  for (int32_t chunk = 1; chunk <= own - 2; ++chunk) {
    const std::vector<double> key = key_of(layer, chunk, head, pooled);
    double dot = 0;
    for (size_t d = 0; d < key.size(); ++d)
      dot += key[d] * static_cast<double>(q.data()[head * q.dim(2) + static_cast<int64_t>(d)]);
    scores.push_back(dot);
  }
  std::vector<int32_t> order(all.begin() + 1, all.begin() + own - 1);
  std::sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return scores[static_cast<size_t>(a - 1)] > scores[static_cast<size_t>(b - 1)];
  });
  order.resize(static_cast<size_t>(n_chunks - 3));
  order.insert(order.end(), {0, own - 1, own});
  std::sort(order.begin(), order.end());
  return order;
}

void expect_row(OneLayer& layer, const std::vector<float>& z, int index, int32_t row, int n_chunks,
                bool pooled = true) {
  for (int head = 0; head < 4; ++head) {
    const std::vector<int32_t> chunks = chunks_of(layer, head, row, n_chunks, pooled);
    const auto place = [&](int32_t key) {
      return std::find(chunks.begin(), chunks.end(), key / kChunk) - chunks.begin();
    };
    const auto sees = [&](int32_t key) { return std::binary_search(chunks.begin(), chunks.end(), key / kChunk); };
    const int32_t n = (static_cast<int32_t>(chunks.size()) - 1) * kChunk + row % kChunk;  // where the query stands
    const auto stands = [&](int32_t key) { return key + n - static_cast<int32_t>(place(key)) * kChunk - key % kChunk; };
    layer.expect_head(z, index, head, layer.weighed(head, layer.pattern_at(head, row, sees, stands)), 3e-5);
  }
}

TEST(LongHeads, EveryHeadReadsTheChunksItPicksAtCompactedPositions) {
  for (const bool pooled : {true, false}) {
    OneLayer layer(std::string("longheads:chunk=32:n_chunks=4:begin=0") + (pooled ? "" : ":key=mean"));
    const std::vector<float> z = layer.feed(300);
    for (const int32_t row : {100, 127, 128, 200, 256, 290, 299}) expect_row(layer, z, row, row, 4, pooled);
    std::set<std::vector<int32_t>> different;
    for (int head = 0; head < 4; ++head) different.insert(chunks_of(layer, head, 299, 4, pooled));
    EXPECT_GT(different.size(), 1u) << "all heads pick the same: the test shows little";
  }
}

TEST(LongHeads, DecodesAsItReadsAPrompt) {
  OneLayer whole("longheads:chunk=32:n_chunks=4:begin=0"), steps("longheads:chunk=32:n_chunks=4:begin=0");
  const std::vector<float> z = whole.feed(260);
  steps.feed(45);
  steps.feed(100);
  for (int row = 145; row < 260; ++row) {
    const std::vector<float> step = steps.feed(1, /*decoding=*/true);
    for (int head = 0; head < 4; ++head)
      EXPECT_THAT(steps.of_head(step, 0, head), ElementsAreArray(whole.of_head(z, row, head))) << row << " " << head;
  }
}

TEST(LongHeads, ReadsEverythingBeforeItBegins) {
  OneLayer layer("longheads:chunk=32:n_chunks=3:begin=200"), dense;
  const std::vector<float> z = layer.feed(240), all = dense.feed(240);
  for (int head = 0; head < 4; ++head) {
    EXPECT_EQ(layer.of_head(z, 199, head), dense.of_head(all, 199, head));
    EXPECT_NE(layer.of_head(z, 200, head), dense.of_head(all, 200, head));
  }
}

TEST(LongHeads, GoesBackWithinAChunk) {
  OneLayer layer("longheads:chunk=32:n_chunks=3:begin=0"), straight("longheads:chunk=32:n_chunks=3:begin=0");
  straight.feed(200);
  layer.feed(220);
  EXPECT_TRUE(layer.pipeline.can_truncate(0, 200));
  EXPECT_FALSE(layer.pipeline.can_truncate(0, 150));
  layer.pipeline.truncate(0, 200);
  layer.truncate(0, 200);
  for (int i = 0; i < 40; ++i) EXPECT_EQ(layer.feed(1, true), straight.feed(1, true)) << i;
}

TEST(LongHeads, RefusesAChunkThatIsNoWholePagesAndNamesIt) {
  const auto parsed = Pipeline::parse("longheads:chunk=40", OneLayer::small_shape());
  ASSERT_FALSE(parsed.has_value());
  EXPECT_THAT(parsed.error().message, HasSubstr("chunk 40"));
}

}  // namespace longheads_test
}  // namespace fovea::attention
