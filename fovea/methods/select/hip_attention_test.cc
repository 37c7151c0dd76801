#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "fovea/attention/testing/one_layer.h"
#include "fovea/base/random.h"
#include "fovea/methods/select/tree_search.h"

namespace fovea::attention {
namespace hip_attention_test {

using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using ::testing::HasSubstr;
using ::testing::IsSupersetOf;
using ::testing::SizeIs;

std::vector<float> noise(int n, uint64_t seed) {
  Rng rng(seed);
  std::vector<float> out(static_cast<size_t>(n));
  for (float& x : out) x = static_cast<float>(rng.below(1 << 20));
  return out;
}

struct Searched {
  std::vector<int32_t> blocks;
  int n_scored = 0;
};
Searched searched(const std::vector<float>& scores, int n, Representative by) {
  Searched out;
  std::set<int32_t> asked;
  out.blocks = tree_search(static_cast<int32_t>(scores.size()), n, by,
                           [&](std::span<const int32_t> blocks, std::span<float> to) {
                             EXPECT_TRUE(std::is_sorted(blocks.begin(), blocks.end()));
                             for (const int32_t block : blocks) {
                               EXPECT_TRUE(asked.insert(block).second) << "scored twice: " << block;
                               to[static_cast<size_t>(block)] = scores[static_cast<size_t>(block)];
                             }
                           });
  out.n_scored = static_cast<int>(asked.size());
  return out;
}
std::vector<int32_t> highest(const std::vector<float>& scores, int n) {
  std::vector<int32_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return scores[static_cast<size_t>(a)] > scores[static_cast<size_t>(b)];
  });
  order.resize(static_cast<size_t>(n));
  std::sort(order.begin(), order.end());
  return order;
}

TEST(TreeSearch, WithTheHighestOfAChunkItFindsTheHighestOfAll) {
  for (const int size : {1, 2, 7, 64, 100, 1000}) {
    for (const int n : {1, 2, 5, 16, 63}) {
      if (n > size) continue;
      const std::vector<float> scores = noise(size, static_cast<uint64_t>(size * 100 + n));
      EXPECT_THAT(searched(scores, n, Representative::kMax).blocks, ElementsAreArray(highest(scores, n)))
          << n << " of " << size;
    }
  }
}

TEST(TreeSearch, OfEightBlocksByHand) {
  // Two chunks of four; their halves stand at 1, 3 and 5, 7 by the centre, at 0, 2, 4 and 6 by the first.
  const std::vector<float> scores = {1, 9, 2, 3, 4, 8, 7, 5};
  EXPECT_THAT(searched(scores, 2, Representative::kCenter).blocks, ElementsAre(1, 5));
  EXPECT_THAT(searched(scores, 2, Representative::kFirst).blocks, ElementsAre(5, 6));  // 4 and 6 go on, 1 is never seen
}

TEST(TreeSearch, ScoresGrowLikeTheLogarithm) {
  constexpr int kBudget = 16;
  for (const Representative by : {Representative::kFirst, Representative::kCenter}) {
    for (int size = 64; size <= 1 << 14; size *= 2) {
      const Searched found = searched(noise(size, 3), kBudget, by);
      const double rounds = std::log2(static_cast<double>(size) / kBudget);  // a whole number
      EXPECT_LE(found.n_scored, 2 * kBudget * rounds) << size;
      EXPECT_EQ(std::set<int32_t>(found.blocks.begin(), found.blocks.end()).size(), size_t{kBudget});
    }
  }
  EXPECT_EQ(searched(noise(1 << 14, 3), kBudget, Representative::kMax).n_scored, 1 << 14);
}

TEST(TreeSearch, NoMoreBlocksThanWantedAreNotScored) {
  const Searched all = searched({5, 4, 3}, 7, Representative::kCenter);
  EXPECT_THAT(all.blocks, ElementsAre(0, 1, 2));
  EXPECT_EQ(all.n_scored, 0);
}

TEST(TreeSearch, WhatIsNoNumberIsLowest) {
  std::vector<float> scores = noise(64, 8);
  for (size_t i = 0; i < scores.size(); i += 2) scores[i] = std::numeric_limits<float>::quiet_NaN();
  const std::vector<int32_t> blocks = searched(scores, 8, Representative::kMax).blocks;
  for (const int32_t block : blocks) EXPECT_EQ(block % 2, 1);
}

// Of the keys before the row's page the `n` with the highest scores, and that page.
std::set<int32_t> top_keys(const OneLayer& layer, int head, int32_t q_pos, size_t n) {
  const std::vector<double> pattern = layer.pattern(head, q_pos, [](int32_t) { return true; });
  const auto own = q_pos / kernels::kPageKeys * kernels::kPageKeys;
  std::vector<int32_t> order(static_cast<size_t>(own));
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(),
            [&](int32_t a, int32_t b) { return pattern[static_cast<size_t>(a)] > pattern[static_cast<size_t>(b)]; });
  order.resize(std::min(n, order.size()));
  std::set<int32_t> keys(order.begin(), order.end());
  for (int32_t key = own; key <= q_pos; ++key) keys.insert(key);
  return keys;
}
void expect_row(const OneLayer& layer, const std::vector<float>& z, int row, int32_t q_pos, size_t n) {
  for (int head = 0; head < layer.shape().n_heads; ++head) {
    const std::set<int32_t> keys = top_keys(layer, head, q_pos, n);
    const auto sees = [&](int32_t key) { return keys.count(key) > 0; };
    layer.expect_head(z, row, head, layer.weighed(head, layer.pattern(head, q_pos, sees)));
  }
}

TEST(HipAttention, ExactRepresentativesReadTheTopKeysOfEveryRowAndHead) {
  OneLayer layer(
      "hip-attention:k=20:block_q=1:block_k=1:window=1:n_sink=0:representative=max:dense_layers=0:refresh=1");
  const std::vector<float> z = layer.feed(200);
  for (const int row : {10, 31, 32, 63, 100, 199}) expect_row(layer, z, row, row, 20);
  for (int32_t at = 200; at < 230; ++at) {
    const std::vector<float> one = layer.feed(1, /*decoding=*/true);
    if (at % 6 == 0) expect_row(layer, one, 0, at, 20);
  }
}

TEST(HipAttention, SinksAndWindowAreNotSearched) {
  OneLayer layer("hip-attention:k=64:window=64:n_sink=16:dense_layers=0");
  SeenKeys seen(2);
  layer.observers.push_back(&seen);
  layer.feed(512);
  // The rows from 448 on: a page of sinks, two that are found, and four from the one that holds 448 + 1 - 64 on.
  const std::vector<int32_t>& keys = seen.of_row(511);
  EXPECT_THAT(keys, SizeIs(7 * 32));
  std::vector<int32_t> always(160);
  std::iota(always.begin(), always.begin() + 32, 0);
  std::iota(always.begin() + 32, always.end(), 384);
  EXPECT_THAT(keys, IsSupersetOf(always));
  std::set<int32_t> pages;
  for (const int32_t key : keys) pages.insert(key / 32);
  EXPECT_THAT(pages, SizeIs(7));
}

// Heads of one group that look for different keys; the other KV head has neither.
std::vector<float> spikes(const std::string& spec, bool shared) {
  OneLayer layer(spec);
  layer.use([](AttentionShape& site) { site.rope = AttentionShape::kNoRope; });
  Batch batch;
  batch.add(std::vector<int32_t>(512, 0), 0, 0);
  std::array<tensor::Tensor, 3> qkv = layer.inputs(batch, 0);
  for (tensor::Tensor& t : qkv) std::fill_n(t.data(), t.elements(), 0.0f);
  for (int64_t row = 0; row < 512; ++row) {
    for (int64_t head = 0; head < 4; ++head)
      qkv[0].data()[(row * 4 + head) * 16] = head % 2 == 0 || shared ? 8.0f : -8.0f;
    for (int64_t kv = 0; kv < 2; ++kv) qkv[2].data()[(row * 2 + kv) * 16] = static_cast<float>(row);
  }
  qkv[1].data()[(100 * 2 + 1) * 16] = 20;   // KV head 1, seen by query head 2
  qkv[1].data()[(200 * 2 + 1) * 16] = -20;  // by query head 3
  const tensor::Tensor z = layer.without_cache(batch, 0, qkv);
  std::vector<float> last;
  for (int64_t head = 0; head < 4; ++head) last.push_back(z.data()[(511 * 4 + head) * 16]);
  return last;
}

TEST(HipAttention, EachQueryHeadFindsItsOwnKeysOfItsKvHead) {
  const std::string spec = "hip-attention:k=32:window=32:n_sink=1:representative=max:dense_layers=0";
  const std::vector<float> z = spikes(spec, false);
  EXPECT_FLOAT_EQ(z[2], 100);
  EXPECT_FLOAT_EQ(z[3], 200);
  EXPECT_GT(z[0], 200) << "nothing to find: mostly the window";
  // Together the heads of a group have one list.
  const std::vector<float> together = spikes(spec + ":per_head=off", false);
  EXPECT_NE(together[2] == 100.0f, together[3] == 200.0f);
  EXPECT_FLOAT_EQ(spikes(spec + ":per_head=off", true)[3], 100);
}

std::set<int32_t> found_by(SeenKeys& seen, int32_t q_pos, int32_t end) {
  std::set<int32_t> out;
  for (const int32_t key : seen.of_row(q_pos)) {
    if (key < end) out.insert(key);
  }
  return out;
}

TEST(HipAttention, GeneratedTokensReuseWhatWasFoundUntilItIsRefreshed) {
  const std::string spec = "hip-attention:k=64:window=40:n_sink=0:dense_layers=0:refresh=";
  OneLayer kept(spec + "10"), fresh(spec + "1");
  SeenKeys of_kept(1), of_fresh(1);
  kept.observers.push_back(&of_kept), fresh.observers.push_back(&of_fresh);
  kept.feed(430), fresh.feed(430);
  for (int i = 0; i < 25; ++i) kept.feed(1, true), fresh.feed(1, true);
  bool differ = false;
  for (int32_t q_pos = 430; q_pos < 455; ++q_pos) {
    const int32_t searched = 430 + (q_pos - 430) / 10 * 10, end = (searched + 1 - 40) / 32 * 32;
    EXPECT_EQ(found_by(of_kept, q_pos, end), found_by(of_fresh, searched, end)) << q_pos;
    EXPECT_THAT(found_by(of_kept, q_pos, end), SizeIs(64)) << q_pos;
    differ = differ || found_by(of_fresh, q_pos, end) != found_by(of_fresh, searched, end);
    std::vector<int32_t> window(static_cast<size_t>(q_pos + 1 - end));
    std::iota(window.begin(), window.end(), end);
    EXPECT_THAT(of_kept.of_row(q_pos), IsSupersetOf(window)) << q_pos;
  }
  EXPECT_TRUE(differ) << "what is found never changes: nothing is tested";
}

TEST(HipAttention, GoesBackOnlyBehindItsLastSearch) {
  OneLayer kept("hip-attention:k=64:window=40:dense_layers=0:refresh=8"),
      fresh("hip-attention:k=64:window=40:dense_layers=0:refresh=1");
  for (OneLayer* layer : {&kept, &fresh}) {
    layer->feed(400);
    for (int i = 0; i < 12; ++i) layer->feed(1, true);  // searched at 400 and 408
  }
  EXPECT_TRUE(kept.pipeline.can_truncate(0, 409));
  EXPECT_FALSE(kept.pipeline.can_truncate(0, 408));
}

TEST(HipAttention, AForkReusesWhatWasFoundBeforeIt) {
  OneLayer forked("hip-attention:k=64:window=40:dense_layers=0:refresh=8"),
      straight("hip-attention:k=64:window=40:dense_layers=0:refresh=8");
  for (OneLayer* layer : {&forked, &straight}) layer->feed(400), layer->feed(1, true);
  forked.fork(0, 3);
  forked.pipeline.fork(0, 3);
  const std::vector<float> first = forked.feed(1, true);
  for (int i = 0; i < 9; ++i) forked.feed(1, true, 3);  // searches anew
  EXPECT_EQ(straight.feed(1, true), first);
  EXPECT_EQ(straight.feed(1, true), forked.feed(1, true));
}

TEST(HipAttention, ChunksThatEndWithBlocksChangeNothing) {
  const std::string spec = "hip-attention:k=64:window=40:dense_layers=0:block_q=";
  OneLayer whole(spec + "64"), chunks(spec + "64");
  std::vector<float> expected = whole.feed(300), found = chunks.feed(128);
  for (const int n : {64, 108}) {
    const std::vector<float> more = chunks.feed(n);
    found.insert(found.end(), more.begin(), more.end());
  }
  EXPECT_EQ(found, expected);
  OneLayer at_once(spec + "1"), single(spec + "1");
  expected = at_once.feed(300), found.clear();
  for (int i = 0; i < 300; ++i) {
    const std::vector<float> more = single.feed(1);
    found.insert(found.end(), more.begin(), more.end());
  }
  EXPECT_EQ(found, expected);
}

TEST(HipAttention, FirstLayersAndWhatFitsAreDense) {
  OneLayer layers("hip-attention:k=32:window=1:n_sink=0:dense_layers=1"), dense;
  for (const int layer : {0, 1}) {
    EXPECT_EQ(layers.feed(300, false, 0, layer) == dense.feed(300, false, 0, layer), layer == 0);
    EXPECT_EQ(layers.feed(1, true, 0, layer) == dense.feed(1, true, 0, layer), layer == 0);
  }
  OneLayer fits("hip-attention:k=256:window=32:n_sink=0:dense_layers=0"), all;
  EXPECT_EQ(fits.feed(288), all.feed(288));
  EXPECT_NE(fits.feed(64), all.feed(64));
}

TEST(HipAttention, KeysBehindAWindowOfTheLayerTakeNoShare) {
  OneLayer layer("hip-attention:k=64:window=1:n_sink=0:dense_layers=0"), dense;
  for (OneLayer* l : {&layer, &dense}) l->use([](AttentionShape& site) { site.window = 40; });
  EXPECT_EQ(layer.feed(300), dense.feed(300));
  EXPECT_EQ(layer.feed(1, true), dense.feed(1, true));
}

TEST(HipAttention, ABlockThatCutsPagesIsRefusedByName) {
  const auto wrong = Pipeline::parse("hip-attention:block_k=3", OneLayer::small_shape());
  ASSERT_FALSE(wrong.has_value());
  EXPECT_EQ(wrong.error().code, ErrorCode::kUsage);
  EXPECT_THAT(wrong.error().message, HasSubstr("block_k"));
}

}  // namespace hip_attention_test
}  // namespace fovea::attention
