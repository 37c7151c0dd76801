#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <memory>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "fovea/attention/testing/one_layer.h"

namespace fovea::attention {
namespace minference_test {

using ::testing::HasSubstr;

constexpr int kRows = 448;  // seven tiles

// A prompt in one call, and the pages that the last row of each tile reads.
struct Read {
  OneLayer layer;
  SeenKeys heads[4] = {SeenKeys(0), SeenKeys(1), SeenKeys(2), SeenKeys(3)};
  explicit Read(const std::string& knobs) : layer("minference:" + knobs) {
    for (SeenKeys& seen : heads) layer.observers.push_back(&seen);
    layer.feed(kRows);
  }
  std::set<int> pages(int head, int row) {
    std::set<int> out;
    for (const int32_t key : heads[head].of_row(row)) out.insert(key / 32);
    return out;
  }
};

std::vector<int> best(const std::vector<double>& scores, size_t n) {
  std::vector<int> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int a, int b) { return scores[static_cast<size_t>(a)] > scores[static_cast<size_t>(b)]; });
  order.resize(std::min(n, order.size()));
  return order;
}

TEST(MInference, VerticalSlashReadsTheHeaviestColumnsAndDiagonalsOfTheLastRows) {
  Read read("pattern=vertical-slash:n_sink=4:window=20:vertical=64:slash=96:last=48");
  for (int head = 0; head < 4; ++head) {
    std::vector<double> columns(kRows / 32, 0.0), diagonals(kRows / 32, 0.0);
    for (int row = kRows - 48; row < kRows; ++row) {
      const std::vector<double> weights = read.layer.pattern(head, row, [](int32_t) { return true; });
      for (int key = 0; key <= row; ++key) {
        columns[static_cast<size_t>(key) / 32] += weights[static_cast<size_t>(key)];
        diagonals[static_cast<size_t>(row - key) / 32] += weights[static_cast<size_t>(key)];
      }
    }
    for (int first = 0; first < kRows; first += 64) {
      std::set<int> expected = {0};
      for (const int page : best(columns, 2)) {
        if (page * 32 < first + 64) expected.insert(page);
      }
      for (int row = first; row < first + 64; ++row) {
        for (int key = std::max(0, row - 19); key <= row; ++key) expected.insert(key / 32);
        for (const int i : best(diagonals, 3)) {
          for (int key = row - 32 * i - 31; key <= row - 32 * i; ++key) {
            if (key >= 0) expected.insert(key / 32);
          }
        }
      }
      EXPECT_EQ(read.pages(head, first + 63), expected) << "head " << head << " rows from " << first;
    }
  }
}

TEST(MInference, AShapeReadsSinksAndAWindow) {
  Read read("pattern=a-shape:n_sink=4:a_window=100");
  for (int head = 0; head < 4; ++head) {
    EXPECT_EQ(read.pages(head, 447), (std::set<int>{0, 8, 9, 10, 11, 12, 13})) << "row 384 sees 285 and on";
    EXPECT_EQ(read.pages(head, 63), (std::set<int>{0, 1}));
  }
}

TEST(MInference, BlockSparseReadsThePagesWithTheHighestMeanScore) {
  Read read("pattern=block-sparse:n_sink=4:window=40:blocks=64");
  Batch batch;
  batch.add(std::vector<int32_t>(kRows, 0), 0, 0);
  const tensor::RopeAngles angles = tensor::make_rope_angles(batch.positions, read.layer.rope());
  const tensor::Tensor q = tensor::rope(read.layer.inputs(batch, 0)[0], angles);
  const tensor::Tensor k = tensor::rope(read.layer.inputs(batch, 0)[1], angles);
  for (int head = 0; head < 4; ++head) {
    const int first = 384;
    std::set<int> expected = {0, 10, 11, 12, 13};  // 384 - 39 lies in page 10
    std::vector<double> means(10, -1e30);
    for (int page = 1; page < 10; ++page) {
      double sum = 0;
      for (int row = first; row < first + 64; ++row) {
        for (int key = page * 32; key < page * 32 + 32; ++key) {
          for (int d = 0; d < 16; ++d)
            sum += static_cast<double>(q.data()[(row * 4 + head) * 16 + d]) * k.data()[(key * 2 + head / 2) * 16 + d];
        }
      }
      means[static_cast<size_t>(page)] = sum;
    }
    for (const int page : best(means, 2)) expected.insert(page);
    EXPECT_EQ(read.pages(head, 447), expected) << head;
  }
}

TEST(MInference, AutoIsThePatternThatHoldsMostOfTheLastRowsWeight) {
  const std::string sizes = ":n_sink=4:window=20:a_window=110:vertical=64:slash=64:blocks=128";
  std::vector<std::unique_ptr<Read>> fixed;
  for (const std::string pattern : {"vertical-slash", "a-shape", "block-sparse"})
    fixed.push_back(std::make_unique<Read>("pattern=" + pattern + sizes));
  Read chosen("pattern=auto" + sizes);
  std::set<size_t> different;
  for (int head = 0; head < 4; ++head) {
    std::vector<double> held(3, 0.0);
    for (int row = 384; row < kRows; ++row) {
      const std::vector<double> weights = chosen.layer.pattern(head, row, [](int32_t) { return true; });
      for (size_t p = 0; p < 3; ++p) {
        for (const int32_t key : fixed[p]->heads[head].of_row(row)) held[p] += weights[static_cast<size_t>(key)];
      }
    }
    const auto p = static_cast<size_t>(best(held, 1)[0]);
    for (int row = 63; row < kRows; row += 64) EXPECT_EQ(chosen.pages(head, row), fixed[p]->pages(head, row)) << head;
    different.insert(p);
  }
  EXPECT_GT(different.size(), 1u) << "all heads alike: nothing is chosen";
}

// The key that the last row of a head looks at, where key 203 of KV head 1 has all that rows look for.
float looked_at(int head) {
  OneLayer layer("minference:n_sink=1:window=32:a_window=64:vertical=32:slash=0:blocks=0");
  layer.use([](AttentionShape& site) { site.rope = AttentionShape::kNoRope; });
  Batch batch;
  batch.add(std::vector<int32_t>(512, 0), 0, 0);
  std::array<tensor::Tensor, 3> qkv = layer.inputs(batch, 0);
  for (tensor::Tensor& t : qkv) std::fill_n(t.data(), t.elements(), 0.0f);
  for (int64_t row = 0; row < 512; ++row) {
    for (int64_t h = 0; h < 4; ++h) qkv[0].data()[(row * 4 + h) * 16] = 8;
    for (int64_t kv = 0; kv < 2; ++kv) qkv[2].data()[(row * 2 + kv) * 16] = static_cast<float>(row);
  }
  qkv[1].data()[(203 * 2 + 1) * 16] = 30;
  return layer.without_cache(batch, 0, qkv).data()[(511 * 4 + head) * 16];
}

TEST(MInference, FindsALineOfOneKeyInTheHeadsOfItsKvHead) {
  EXPECT_FLOAT_EQ(looked_at(2), 203);
  EXPECT_FLOAT_EQ(looked_at(3), 203);
  EXPECT_NE(looked_at(0), looked_at(2)) << "keys of KV head 0 are all alike";
}

TEST(MInference, GeneratedTokensFirstLayersAndThePatternDenseAreDense) {
  OneLayer sparse("minference:dense_layers=1:a_window=32:window=32:vertical=32:slash=32:blocks=32"),
      whole("minference:pattern=dense"), all("minference:vertical=512:slash=0"), dense;
  for (const int layer : {0, 1}) {
    const std::vector<float> z = dense.feed(400, false, 0, layer);
    EXPECT_EQ(sparse.feed(400, false, 0, layer) == z, layer == 0);
    EXPECT_EQ(whole.feed(400, false, 0, layer), z);
    EXPECT_EQ(all.feed(400, false, 0, layer), z) << "all columns";
    EXPECT_EQ(sparse.feed(1, true, 0, layer), dense.feed(1, true, 0, layer));
  }
}

TEST(MInference, APatternThatIsNotThereIsRefusedByName) {
  const auto wrong = Pipeline::parse("minference:pattern=b-shape", OneLayer::small_shape());
  ASSERT_FALSE(wrong.has_value());
  EXPECT_EQ(wrong.error().code, ErrorCode::kUsage);
  EXPECT_THAT(wrong.error().message, HasSubstr("pattern"));
}

}  // namespace minference_test
}  // namespace fovea::attention
