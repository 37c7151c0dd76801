#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <set>
#include <string>
#include <vector>

#include "fovea/attention/testing/one_layer.h"

namespace fovea::attention {
namespace xattention_test {

using ::testing::HasSubstr;

tensor::Tensor turned(const OneLayer& layer, int what, int n) {
  Batch batch;
  batch.add(std::vector<int32_t>(static_cast<size_t>(n), 0), 0, 0);
  return tensor::rope(layer.inputs(batch, 0)[static_cast<size_t>(what)],
                      tensor::make_rope_angles(batch.positions, layer.rope()));
}

// In plain loops: the blocks of 32 keys that the tile of rows [first, end) of a head reads. `nearest`: how far the sum
// was from the threshold at the last step, to see that rounding does not decide.
std::set<int> expected(const tensor::Tensor& q, const tensor::Tensor& k, int head, int first, int end, int stride,
                       double threshold, double& nearest) {
  const int n_blocks = (end + 31) / 32, own = first / 32, n_rows = (end - first + stride - 1) / stride;
  std::vector<double> of_block(static_cast<size_t>(n_blocks), 0.0);
  const auto product = [&](int row, int key) {
    double sum = 0;
    for (int64_t d = 0; d < 16; ++d)
      sum += static_cast<double>(q.data()[(row * 4 + head) * 16 + d]) * k.data()[(key * 2 + head / 2) * 16 + d];
    return sum / 4 / stride;
  };
  for (int r = 0; r < n_rows; ++r) {
    const int last = std::min(end, first + (r + 1) * stride) - 1;
    std::vector<double> cells;
    double all = 0;
    for (int c = 0; c * stride <= last; ++c) {
      double sum = 0;
      for (int i = 0; i < stride; ++i) {
        const int row = first + r * stride + stride - 1 - i, key = c * stride + i;
        if (row < end && key < end) sum += product(row, key);
      }
      cells.push_back(std::exp(sum));
      all += cells.back();
    }
    for (size_t c = 0; c < cells.size(); ++c) of_block[c * static_cast<size_t>(stride) / 32] += cells[c] / all;
  }
  std::set<int> reads = {0};
  double taken = of_block[0];
  for (int b = std::max(1, own); b < n_blocks; ++b) reads.insert(b), taken += of_block[static_cast<size_t>(b)];
  nearest = 1;
  while (true) {
    nearest = std::min(nearest, std::abs(taken / n_rows - threshold));
    if (taken >= threshold * n_rows || static_cast<int>(reads.size()) == n_blocks) return reads;
    int best = -1;
    for (int b = 1; b < own; ++b) {
      if (!reads.count(b) && (best < 0 || of_block[static_cast<size_t>(b)] > of_block[static_cast<size_t>(best)]))
        best = b;
    }
    reads.insert(best);
    taken += of_block[static_cast<size_t>(best)];
  }
}

TEST(XAttention, ReadsTheHeaviestBlocksByTheSumsOfAntidiagonals) {
  for (const int stride : {1, 4, 8, 16, 32}) {
    OneLayer layer("xattention:threshold=0.7:block=32:stride=" + std::to_string(stride));
    SeenKeys heads[4] = {SeenKeys(0), SeenKeys(1), SeenKeys(2), SeenKeys(3)};
    for (SeenKeys& seen : heads) layer.observers.push_back(&seen);
    constexpr int kRows = 474;  // the last cell lacks rows
    layer.feed(kRows);
    const tensor::Tensor q = turned(layer, 0, kRows), k = turned(layer, 1, kRows);
    std::set<std::set<int>> different;
    for (int head = 0; head < 4; ++head) {
      for (int first = 0; first < kRows; first += 64) {
        const int end = std::min(kRows, first + 64);
        double nearest = 0;
        const std::set<int> blocks = expected(q, k, head, first, end, stride, 0.7, nearest);
        ASSERT_GT(nearest, 1e-5);
        std::set<int> found;
        for (const int32_t key : heads[head].of_row(end - 1)) found.insert(key / 32);
        EXPECT_EQ(found, blocks) << "head " << head << " rows from " << first << " stride " << stride;
        different.insert(blocks);
      }
    }
    EXPECT_GT(different.size(), 12u) << "too much alike to tell anything";
  }
}

// The key that the last row of a head looks at, where key 203 of KV head 1 has all that rows look for.
float looked_at(int head) {
  OneLayer layer("xattention:block=32:stride=8:threshold=0.5");
  layer.use([](AttentionShape& site) { site.rope = AttentionShape::kNoRope; });
  Batch batch;
  batch.add(std::vector<int32_t>(512, 0), 0, 0);
  std::array<tensor::Tensor, 3> qkv = layer.inputs(batch, 0);
  for (tensor::Tensor& t : qkv) std::fill_n(t.data(), t.elements(), 0.0f);
  for (int64_t row = 0; row < 512; ++row) {
    for (int64_t h = 0; h < 4; ++h) qkv[0].data()[(row * 4 + h) * 16] = 8;
    for (int64_t kv = 0; kv < 2; ++kv) qkv[2].data()[(row * 2 + kv) * 16] = static_cast<float>(row);
  }
  qkv[1].data()[(203 * 2 + 1) * 16] = 30;  // an antidiagonal of every cell crosses it
  return layer.without_cache(batch, 0, qkv).data()[(511 * 4 + head) * 16];
}

TEST(XAttention, FindsALineOfOneKeyInTheHeadsOfItsKvHead) {
  EXPECT_FLOAT_EQ(looked_at(2), 203);
  EXPECT_FLOAT_EQ(looked_at(3), 203);
  EXPECT_NE(looked_at(0), looked_at(2)) << "keys of KV head 0 are all alike";
}

TEST(XAttention, GeneratedTokensFirstLayersAndAThresholdOfOneAreDense) {
  OneLayer sparse("xattention:threshold=0.5:block=32:dense_layers=1"), whole("xattention:threshold=1"), dense;
  for (const int layer : {0, 1}) {
    const std::vector<float> z = dense.feed(300, false, 0, layer);
    EXPECT_EQ(sparse.feed(300, false, 0, layer) == z, layer == 0);
    EXPECT_EQ(whole.feed(300, false, 0, layer), z);
    EXPECT_EQ(sparse.feed(1, true, 0, layer), dense.feed(1, true, 0, layer));
  }
}

TEST(XAttention, ALowerThresholdReadsLess) {
  uint64_t before = std::numeric_limits<uint64_t>::max();
  for (const std::string threshold : {"1", "0.9", "0.6", "0"}) {
    OneLayer layer("xattention:block=32:threshold=" + threshold);
    layer.feed(700);
    EXPECT_LT(layer.keys.seen, before) << threshold;
    before = layer.keys.seen;
  }
}

TEST(XAttention, ChunksThatEndWithTilesChangeNothing) {
  OneLayer whole("xattention:threshold=0.6:block=32"), chunks("xattention:threshold=0.6:block=32");
  const std::vector<float> expected = whole.feed(300);
  std::vector<float> found = chunks.feed(128);
  for (const int n : {64, 108}) {
    const std::vector<float> more = chunks.feed(n);
    found.insert(found.end(), more.begin(), more.end());
  }
  EXPECT_EQ(found, expected);
}

TEST(XAttention, AThresholdAboveOneIsRefusedByName) {
  const auto wrong = Pipeline::parse("xattention:threshold=2", OneLayer::small_shape());
  ASSERT_FALSE(wrong.has_value());
  EXPECT_EQ(wrong.error().code, ErrorCode::kUsage);
  EXPECT_THAT(wrong.error().message, HasSubstr("threshold"));
}

}  // namespace xattention_test
}  // namespace fovea::attention
