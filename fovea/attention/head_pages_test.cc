#include "fovea/attention/head_pages.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "fovea/attention/testing/one_layer.h"

namespace fovea::attention {
namespace head_pages_test {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

// A plan over the pages of a fed layer, for the rows that were fed last.
struct Planned {
  OneLayer layer;
  std::vector<int32_t> rows;
  KeyPlan plan;
  ModelShape model;
  tensor::Tensor q;

  Planned(int n_before, int n_rows, kernels::KvType type = kernels::KvType::kF32) : layer("dense", type) {
    layer.feed(n_before);
    layer.feed(n_rows);
    for (int i = 0; i < n_rows; ++i) rows.push_back(n_before + i);
    model = layer.shape();
    Batch batch;
    batch.add(std::vector<int32_t>(rows.size(), 0), n_before, 0);
    q = tensor::rope(layer.inputs(batch, 0)[0], tensor::make_rope_angles(batch.positions, layer.rope()));
    plan.begin(rows, 2, 2, {});
    plan.set_layout({type, type, 16, 16});
    for (int kv = 0; kv < 2; ++kv) plan.set_pages(kv, layer.cache.blocks(0, 0, kv));
  }
  Call call() const {
    return {.model = model, .layer = 0, .sequence = 0, .q_pos = rows, .phase = Phase::kPrompt, .state = nullptr};
  }
};

std::vector<int32_t> listed(const KeyPlan::Part& part) {
  std::vector<int32_t> out;
  for (const KeyPlan::Page& page : part.pages) out.push_back(page.index);
  return out;
}

TEST(HeadPages, TilesEndWhereThePositionDivides) {
  Planned p(100, 100);
  cut_at_multiples(p.plan, 32);
  std::vector<int64_t> rows;
  for (int t = 0; t < p.plan.n_tiles(); ++t) rows.push_back(p.plan.first_row(t) + 100);
  EXPECT_THAT(rows, ElementsAre(100, 128, 160, 164, 192));  // 164: 64 rows of the call
}

TEST(HeadPages, WithinAreThoseWithAllTheirKeysThere) {
  Planned p(150, 50);
  KeyPlan::Tile& tile = p.plan.tile(0, 0);
  EXPECT_THAT(pages_within(p.plan, 0, tile, 0, 1000), ElementsAre(0, 1, 2, 3, 4, 5, 6));
  EXPECT_THAT(pages_within(p.plan, 0, tile, 32, 160), ElementsAre(1, 2, 3, 4));
  EXPECT_THAT(pages_within(p.plan, 0, tile, 33, 159), ElementsAre(2, 3));
  EXPECT_THAT(pages_within(p.plan, 0, tile, 40, 60), IsEmpty());
  for (KeyRule& rule : tile.parts[0].rules) rule = {.n_sink = 0, .window = 60};
  EXPECT_THAT(pages_within(p.plan, 0, tile, 0, 150), ElementsAre(2, 3)) << "the row at 150 sees from 91 on";
}

TEST(HeadPages, HeadsThatReadTheSameStayTogether) {
  Planned p(150, 50);
  const std::vector<int32_t> pages = {1, 2, 4};
  const std::vector<uint32_t> keys = {0, ~uint32_t{0}, 0x00ff};
  KeyPlan::Tile& tile = p.plan.tile(1, 0);
  keep_keys(p.plan, tile, pages, std::vector<std::vector<uint32_t>>{keys, keys});
  ASSERT_THAT(tile.parts, SizeIs(1));
  EXPECT_EQ(tile.parts[0].head, KeyPlan::kAllHeads);
  EXPECT_THAT(listed(tile.parts[0]), ElementsAre(0, 2, 3, 4, 5, 6));
  for (const KeyPlan::Page& page : tile.parts[0].pages) EXPECT_EQ(page.bits != nullptr, page.index == 4);
  for (const uint32_t bits : p.plan.mask(tile, tile.parts[0].pages[3])) EXPECT_EQ(bits, 0x00ffu);
}

TEST(HeadPages, EachHeadReadsItsOwn) {
  Planned p(150, 50);
  const std::vector<int32_t> pages = {1, 2};
  const uint32_t all = ~uint32_t{0};
  KeyPlan::Tile& tile = p.plan.tile(0, 0);
  keep_keys(p.plan, tile, pages, std::vector<std::vector<uint32_t>>{{all, 0}, {0, 7}});
  ASSERT_THAT(tile.parts, SizeIs(2));
  EXPECT_EQ(tile.parts[0].head, 0);
  EXPECT_EQ(tile.parts[1].head, 1);
  EXPECT_THAT(listed(tile.parts[0]), ElementsAre(0, 1, 3, 4, 5, 6));
  EXPECT_THAT(listed(tile.parts[1]), ElementsAre(0, 2, 3, 4, 5, 6));
  // Narrowed again, each by its own list.
  keep_keys(p.plan, tile, std::vector<int32_t>{3}, std::vector<std::vector<uint32_t>>{{0}, {all}});
  ASSERT_THAT(tile.parts, SizeIs(2));
  EXPECT_THAT(listed(tile.parts[0]), ElementsAre(0, 1, 4, 5, 6));
  EXPECT_THAT(listed(tile.parts[1]), ElementsAre(0, 2, 3, 4, 5, 6));
  EXPECT_EQ(p.plan.mask(tile, tile.parts[1].pages[1])[0], 7u);
}

TEST(HeadPages, ScoresAreThoseOfTheSampledRowsAndTheNamedPages) {
  for (const kernels::KvType type : {kernels::KvType::kF32, kernels::KvType::kI16}) {
    Planned p(150, 50, type);
    const Call call = p.call();
    const RowScores scores(call, {p.q, p.q}, p.plan, 1, 31, 19, 7);
    EXPECT_THAT(scores.q_pos(), ElementsAre(185, 192, 199));
    const std::vector<int32_t> pages = {2, 6};
    const std::span<const float> found = scores.of(1, pages);
    ASSERT_THAT(found, SizeIs(3 * 2 * 32));
    for (size_t row = 0; row < 3; ++row) {
      const int32_t q_pos = scores.q_pos()[row];
      const std::vector<double> p_row = p.layer.pattern(3, q_pos, [](int32_t) { return true; });
      // Scores are logarithms of the pattern but for one number a row.
      const double shift = static_cast<double>(found[row * 64]) - std::log(p_row[64]);
      for (size_t slot = 0; slot < 64; ++slot) {
        const size_t key = (slot < 32 ? 64 : 192 - 32) + slot;
        const float score = found[row * 64 + slot];
        if (key > static_cast<size_t>(q_pos)) {
          EXPECT_EQ(score, -std::numeric_limits<float>::infinity()) << key;
        } else {
          EXPECT_NEAR(score, std::log(p_row[key]) + shift, type == kernels::KvType::kF32 ? 1e-4 : 2e-2) << key;
        }
      }
    }
  }
}

}  // namespace head_pages_test
}  // namespace fovea::attention
