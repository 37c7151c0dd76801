#include "fovea/attention/kv_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

namespace fovea::attention {
namespace {

using ::testing::ElementsAre;

constexpr int kDim = 8;

KvCache small_cache() { return KvCache(CacheShape::uniform(2, 2, kDim, kernels::KvType::kF32)); }

void append_range(KvCache& cache, SequenceId sequence, int layer, int kv_head, int begin, int end) {
  for (int p = begin; p < end; ++p) {
    const std::vector<float> k(kDim, static_cast<float>(p)), v(kDim, static_cast<float>(-p));
    cache.append(sequence, layer, kv_head, p, k.data(), v.data());
  }
}

// The first value of each live key, in list order.
std::vector<float> live_keys(const KvCache& cache, SequenceId sequence, int layer, int kv_head) {
  std::vector<float> keys;
  for (const kernels::KeyBlock& block : cache.blocks(sequence, layer, kv_head)) {
    for (int slot = 0; slot < kernels::kPageKeys; ++slot) {
      if (block.positions[slot] == kernels::kNoPosition) continue;
      float k[kDim], v[kDim];
      kernels::key_read(block.k, cache.shape().k_type, kDim, slot, k);
      kernels::value_read(block.v, cache.shape().v_type, kDim, slot, v);
      keys.push_back(k[0]);
      EXPECT_EQ(v[0], -k[0]);
    }
  }
  return keys;
}

TEST(KvCache, CountsOnlyThePagesOfTheHeadsThatHoldKeys) {
  KvCache cache = small_cache();
  EXPECT_EQ(cache.bytes(), 0u);
  append_range(cache, 0, 0, 1, 0, 33);
  EXPECT_EQ(cache.bytes(), 2 * cache.page_bytes(0));
  EXPECT_EQ(cache.n_keys(0, 0, 1), 33);
  EXPECT_EQ(cache.n_keys(0, 1, 1), 0);
}

TEST(KvCache, GivesBytesBackWhenAHeadDropsItsHistory) {
  KvCache cache = small_cache();
  append_range(cache, 0, 0, 0, 0, 320);
  append_range(cache, 0, 0, 1, 0, 320);
  const uint64_t before = cache.bytes();
  cache.retain(0, 0, 0, [](int32_t p) { return p < 4 || p >= 256; });
  EXPECT_EQ(cache.n_keys(0, 0, 0), 68);
  EXPECT_LE(before - cache.bytes(), before / 2);
  EXPECT_LE(cache.bytes() - before / 2, cache.ideal_bytes(0, 68) + cache.ideal_bytes(0, 1));
  EXPECT_EQ(cache.n_keys(0, 0, 1), 320);
}

TEST(KvCache, PacksHolesTogetherAndKeepsEveryKeyWithItsPosition) {
  KvCache cache = small_cache();
  append_range(cache, 0, 0, 0, 0, 200);
  cache.retain(0, 0, 0, [](int32_t p) { return p % 10 == 0; });
  EXPECT_EQ(cache.bytes(), cache.ideal_bytes(0, 20));
  std::vector<float> expected(20);
  for (int i = 0; i < 20; ++i) expected[static_cast<size_t>(i)] = static_cast<float>(10 * i);
  EXPECT_EQ(live_keys(cache, 0, 0, 0), expected);
  append_range(cache, 0, 0, 0, 200, 201);
  EXPECT_EQ(cache.positions(0, 0, 0).back(), 200);
}

TEST(KvCache, DroppingARangeKeepsTheRestInOrder) {
  for (const auto& [begin, end] : std::vector<std::pair<int, int>>{
           {4, 5}, {4, 31}, {4, 32}, {4, 100}, {0, 40}, {32, 64}, {150, 200}, {0, 200}, {190, 300}, {7, 7}}) {
    KvCache cache = small_cache();
    append_range(cache, 0, 0, 0, 0, 200);
    cache.drop(0, 0, 0, begin, end);
    append_range(cache, 0, 0, 0, 200, 205);
    std::vector<float> expected;
    for (int p = 0; p < 205; ++p) {
      if (p < begin || p >= std::min(end, 200)) expected.push_back(static_cast<float>(p));
    }
    EXPECT_EQ(live_keys(cache, 0, 0, 0), expected) << begin << " " << end;
    EXPECT_EQ(cache.n_keys(0, 0, 0), static_cast<int64_t>(expected.size()));
  }
}

TEST(KvCache, ASlidingWindowNeverTakesMoreThanAPageOverTheLeast) {
  KvCache cache = small_cache();
  for (int p = 0; p < 1000; ++p) {
    append_range(cache, 0, 0, 0, p, p + 1);
    cache.drop(0, 0, 0, 4, p + 1 - 150);
    EXPECT_LE(cache.bytes(), cache.ideal_bytes(0, 154) + cache.ideal_bytes(0, 1)) << p;
  }
  EXPECT_EQ(cache.n_keys(0, 0, 0), 154);
}

TEST(KvCache, DroppingOnOneSideOfAForkLeavesTheOther) {
  KvCache cache = small_cache();
  append_range(cache, 0, 0, 0, 0, 100);
  cache.fork(0, 1);
  cache.drop(0, 0, 0, 3, 70);
  EXPECT_EQ(cache.n_keys(0, 0, 0), 33);
  std::vector<float> all(100);
  std::iota(all.begin(), all.end(), 0.0f);
  EXPECT_EQ(live_keys(cache, 1, 0, 0), all);
}

TEST(KvCache, AForkSharesPagesUntilOneSideWrites) {
  KvCache cache = small_cache();
  append_range(cache, 0, 0, 0, 0, 40);
  const uint64_t before = cache.bytes();
  cache.fork(0, 1);
  EXPECT_EQ(cache.bytes(), before);
  append_range(cache, 1, 0, 0, 40, 41);
  EXPECT_EQ(cache.bytes(), before + cache.ideal_bytes(0, 1));
  EXPECT_EQ(cache.n_keys(0, 0, 0), 40);
  EXPECT_EQ(cache.n_keys(1, 0, 0), 41);
  cache.remove(0);
  EXPECT_EQ(cache.bytes(), before);
}

TEST(KvCache, TruncationGoesBackToThePrefixThatAFreshPrefillWouldHold) {
  KvCache cache = small_cache();
  append_range(cache, 0, 1, 0, 0, 100);
  cache.truncate(0, 40);
  append_range(cache, 0, 1, 0, 40, 50);
  std::vector<float> expected(50);
  std::iota(expected.begin(), expected.end(), 0.0f);
  EXPECT_EQ(live_keys(cache, 0, 1, 0), expected);
  EXPECT_EQ(cache.bytes(), cache.ideal_bytes(0, 50));
}

TEST(KvCache, TruncationLeavesAForkAsItWas) {
  KvCache cache = small_cache();
  append_range(cache, 0, 1, 0, 0, 100);
  cache.fork(0, 1);
  cache.truncate(1, 40);
  append_range(cache, 1, 1, 0, 40, 41);
  EXPECT_EQ(live_keys(cache, 0, 1, 0).size(), 100u);
  EXPECT_EQ(live_keys(cache, 1, 1, 0).size(), 41u);
  EXPECT_EQ(cache.n_keys(1, 1, 0), 41);
  cache.truncate(1, 32);  // a whole page goes
  EXPECT_EQ(cache.n_keys(1, 1, 0), 32);
  EXPECT_EQ(cache.blocks(1, 1, 0).size(), 1u);
}

TEST(KvCache, RetainingNothingFreesAllAndTheNextKeyStartsAPage) {
  KvCache cache = small_cache();
  append_range(cache, 0, 0, 0, 0, 10);
  cache.retain(0, 0, 0, [](int32_t) { return false; });
  EXPECT_EQ(cache.bytes(), 0u);
  append_range(cache, 0, 0, 0, 10, 11);
  EXPECT_THAT(cache.positions(0, 0, 0), ElementsAre(10));
}

TEST(KvCache, RefusesPositionsThatDoNotRise) {
  KvCache cache = small_cache();
  append_range(cache, 0, 0, 0, 0, 3);
  const std::vector<float> x(kDim, 0.0f);
  EXPECT_THROW(cache.append(0, 0, 0, 2, x.data(), x.data()), CheckFailed);
  EXPECT_THROW(cache.append(0, 2, 0, 3, x.data(), x.data()), CheckFailed);
}

}  // namespace
}  // namespace fovea::attention
