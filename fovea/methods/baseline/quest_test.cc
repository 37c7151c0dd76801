#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <limits>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "fovea/attention/testing/one_layer.h"

namespace fovea::attention {
namespace quest_test {

using ::testing::ElementsAreArray;
using ::testing::HasSubstr;
using ::testing::SizeIs;

std::array<tensor::Tensor, 3> inputs(const OneLayer& layer, int32_t position) {
  Batch batch;
  batch.add(std::vector<int32_t>{0}, position, 0);
  std::array<tensor::Tensor, 3> out = layer.inputs(batch, 0);
  for (int what = 0; what < 2; ++what) {
    tensor::Tensor& turned = out[static_cast<size_t>(what)];
    turned = tensor::rope(turned, std::vector<int32_t>{position}, layer.rope());
  }
  return out;
}

// The keys that the row at q_pos reads, in plain loops: of the pages in the cache the first, the last with a key that
// it sees, and those between where some head's bound is highest, n_pages in all.
std::set<int32_t> expected(const OneLayer& layer, int kv, int32_t q_pos, size_t n_pages) {
  std::vector<std::vector<int32_t>> pages;
  for (const KeyBlock& block : layer.cache.blocks(0, 0, kv)) {
    std::vector<int32_t> page;
    for (int slot = 0; slot < kernels::kPageKeys; ++slot) {
      if (block.positions[slot] <= q_pos) page.push_back(block.positions[slot]);
    }
    if (!page.empty()) pages.push_back(page);
  }
  const int dim = layer.shape().head_dim;
  std::multimap<double, size_t> by_bound;
  const tensor::Tensor q = inputs(layer, q_pos)[0];
  for (size_t p = 1; p + 1 < pages.size(); ++p) {
    std::vector<tensor::Tensor> keys;
    for (const int32_t key : pages[p]) keys.push_back(inputs(layer, key)[1]);
    double most = -std::numeric_limits<double>::infinity();
    for (int head = 2 * kv; head < 2 * kv + 2; ++head) {
      double bound = 0;
      for (int d = 0; d < dim; ++d) {
        double best = -std::numeric_limits<double>::infinity();
        for (const tensor::Tensor& key : keys)
          best = std::max(
              best, static_cast<double>(q.data()[head * dim + d]) * static_cast<double>(key.data()[kv * dim + d]));
        bound += best;
      }
      most = std::max(most, bound);
    }
    by_bound.insert({-most, p});
  }
  std::set<int32_t> keys(pages.front().begin(), pages.front().end());
  keys.insert(pages.back().begin(), pages.back().end());
  size_t n = 2;
  for (const auto& [bound, p] : by_bound) {
    if (n++ < n_pages) keys.insert(pages[p].begin(), pages[p].end());
  }
  return keys;
}

void expect_row(const OneLayer& layer, const std::vector<float>& z, int row, int32_t q_pos, size_t n_pages) {
  for (int head = 0; head < layer.shape().n_heads; ++head) {
    const std::set<int32_t> keys = expected(layer, head / 2, q_pos, n_pages);
    const auto sees = [&](int32_t key) { return keys.count(key) > 0; };
    layer.expect_head(z, row, head, layer.weighed(head, layer.pattern(head, q_pos, sees)));
  }
}

TEST(Quest, ReadsThePagesOfTheHighestBounds) {
  OneLayer layer("quest:budget=128:dense_layers=0");
  layer.feed(290);
  std::set<std::set<int32_t>> different;
  for (int32_t at = 290; at < 325; ++at) {  // the last page is filled on the way
    const std::vector<float> z = layer.feed(1, /*decoding=*/true);
    if (at % 7 == 0 || at >= 318) expect_row(layer, z, 0, at, 4);
    for (const int kv : {0, 1}) different.insert(expected(layer, kv, at, 4));
  }
  EXPECT_GT(different.size(), 4u) << "too much alike to tell anything";
  EXPECT_THAT(layer.cache.positions(0, 0, 0), SizeIs(325));  // nothing leaves
}

TEST(Quest, PromptsAndWhatFitsAreDense) {
  OneLayer quest("quest:budget=256:dense_layers=0"), dense;
  EXPECT_EQ(quest.feed(255), dense.feed(255));
  EXPECT_EQ(quest.feed(1, true), dense.feed(1, true));  // 256 keys
  EXPECT_NE(quest.feed(1, true), dense.feed(1, true));
  EXPECT_EQ(quest.feed(20), dense.feed(20));
}

TEST(Quest, TheFirstLayersAreDense) {
  OneLayer quest("quest:budget=64:dense_layers=1"), dense;
  for (const int layer : {0, 1}) quest.feed(200, false, 0, layer), dense.feed(200, false, 0, layer);
  EXPECT_EQ(quest.feed(1, true, 0, 0), dense.feed(1, true, 0, 0));
  EXPECT_NE(quest.feed(1, true, 0, 1), dense.feed(1, true, 0, 1));
}

TEST(Quest, SeveralRowsOfOneCallReadWhatEachReadsAlone) {
  OneLayer together("quest:budget=96:dense_layers=0"), single("quest:budget=96:dense_layers=0");
  together.feed(220), single.feed(220);
  const std::vector<float> all = together.feed(40, true);
  for (int row = 0; row < 40; ++row) {
    const std::vector<float> one = single.feed(1, true);
    EXPECT_THAT(one, ElementsAreArray(all.begin() + row * static_cast<ptrdiff_t>(one.size()),
                                      all.begin() + (row + 1) * static_cast<ptrdiff_t>(one.size())))
        << row;
  }
}

TEST(Quest, OtherKeysAtTheSamePositionsAreSummedUpAnew) {
  OneLayer back("quest:budget=96:dense_layers=0"), fresh("quest:budget=96:dense_layers=0");
  back.feed(200);
  back.feed(1, true);
  ASSERT_TRUE(back.pipeline.can_truncate(0, 70));
  back.truncate(0, 70);
  back.pipeline.truncate(0, 70);
  back.content = fresh.content = [](int32_t position) { return position < 70 ? position : 5000 - 3 * position; };
  fresh.feed(70);
  EXPECT_EQ(back.feed(130), fresh.feed(130));
  for (int i = 0; i < 5; ++i) EXPECT_EQ(back.feed(1, true), fresh.feed(1, true));
}

TEST(Quest, PagesThatAnotherMethodHasThinnedOutAreSummedUpAnew) {
  OneLayer layer("snapkv:budget=150:window=4,quest:budget=96:dense_layers=0");
  layer.feed(200);
  layer.feed(1, true);
  Batch end;
  end.add(std::vector<int32_t>(9, 0), 201, 0, Phase::kPromptEnd);
  layer.run(end, 0);
  ASSERT_THAT(layer.cache.positions(0, 0, 0), SizeIs(150));
  Batch next;
  next.add(std::vector<int32_t>{0}, 210, 0, Phase::kDecode);
  expect_row(layer, layer.run(next, 0), 0, 210, 3);
}

TEST(Quest, ASequenceThatForkedGoesItsOwnWay) {
  OneLayer layer("quest:budget=96:dense_layers=0");
  layer.feed(190);
  layer.feed(1, true);
  layer.fork(0, 3);
  layer.pipeline.fork(0, 3);
  layer.feed(40, true, 3);  // fills pages with keys of its own
  for (int i = 0; i < 40; ++i) {
    const std::vector<float> z = layer.feed(1, true);
    if (i > 36) expect_row(layer, z, 0, 191 + i, 3);
  }
}

TEST(Quest, PagesBehindAWindowOfTheLayerTakeNoShare) {
  OneLayer layer("quest:budget=128:dense_layers=0"), dense;
  for (OneLayer* l : {&layer, &dense}) {
    l->use([](AttentionShape& site) { site.window = 90; });
    l->feed(300);
  }
  for (int i = 0; i < 3; ++i) EXPECT_EQ(layer.feed(1, true), dense.feed(1, true));  // of four pages at most
}

TEST(Quest, ANegativeBudgetIsRefusedByName) {
  const auto wrong = Pipeline::parse("quest:budget=-1", OneLayer::small_shape());
  ASSERT_FALSE(wrong.has_value());
  EXPECT_EQ(wrong.error().code, ErrorCode::kUsage);
  EXPECT_THAT(wrong.error().message, HasSubstr("budget"));
}

}  // namespace quest_test
}  // namespace fovea::attention
