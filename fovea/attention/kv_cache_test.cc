#include "fovea/attention/kv_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <numeric>

#include "fovea/base/random.h"

namespace fovea::attention {
namespace kv_cache_test {

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
  EXPECT_EQ(cache.bytes(), 2 * cache.page_bytes(0, 1));
  EXPECT_EQ(cache.n_keys(0, 0, 1), 33);
  EXPECT_EQ(cache.n_keys(0, 1, 1), 0);
}

TEST(KvCache, RowsAppendedTogetherAreThoseAppendedOneByOne) {
  KvCache cache = small_cache();
  append_range(cache, 0, 0, 1, 3, 80);
  append_range(cache, 1, 0, 1, 3, 20);
  constexpr int kStep = kDim + 5;  // rows of other heads lie between
  std::vector<int32_t> positions;
  std::vector<float> k, v;
  for (int p = 20; p < 80; ++p) {
    positions.push_back(p);
    k.insert(k.end(), kStep, static_cast<float>(p)), v.insert(v.end(), kStep + 1, static_cast<float>(-p));
  }
  cache.append(1, 0, 1, positions, k.data(), kStep, v.data(), kStep + 1);
  EXPECT_EQ(cache.positions(1, 0, 1), cache.positions(0, 0, 1));
  EXPECT_EQ(live_keys(cache, 1, 0, 1), live_keys(cache, 0, 0, 1));
  EXPECT_EQ(cache.n_keys(1, 0, 1), 77);
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

TEST(KvCache, AForkCopiesAListOfPagesWhenOneSideWritesItAndNoOther) {
  KvCache cache = small_cache();
  for (int layer = 0; layer < 2; ++layer) {
    for (int head = 0; head < 2; ++head) append_range(cache, 0, layer, head, 0, 100);
  }
  cache.fork(0, 1);
  const auto n_shared = [&] {
    int n = 0;
    for (int layer = 0; layer < 2; ++layer) {
      for (int head = 0; head < 2; ++head)
        n += cache.blocks(0, layer, head).data() == cache.blocks(1, layer, head).data();
    }
    return n;
  };
  EXPECT_EQ(n_shared(), 4);
  append_range(cache, 1, 0, 0, 100, 101);
  EXPECT_EQ(n_shared(), 3);
  cache.drop(0, 1, 1, 0, 40);
  EXPECT_EQ(n_shared(), 2);
  append_range(cache, 1, 0, 0, 101, 102);
  EXPECT_EQ(n_shared(), 2);
  EXPECT_EQ(live_keys(cache, 0, 0, 0).size(), 100u);
  EXPECT_EQ(live_keys(cache, 1, 1, 1).size(), 100u);
  const auto* list = cache.blocks(0, 0, 1).data();
  cache.remove(1);
  append_range(cache, 0, 0, 1, 100, 101);  // four pages already: no list grows
  EXPECT_EQ(cache.blocks(0, 0, 1).data(), list);
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

// Layer 0 of a cache, driven beside a list of positions for each KV head.
class TwinCache {
 public:
  TwinCache(int n_k, int n_v)
      : cache_({.layers = {{n_k, n_v, kDim, kDim}}, .k_type = kernels::KvType::kF32, .v_type = kernels::KvType::kF32}),
        at_(cache_.shape().layer(0)) {
    held_[0].resize(static_cast<size_t>(at_.n_kv_heads()));
  }
  KvCache& cache() { return cache_; }
  int n_heads() const { return at_.n_kv_heads(); }
  void append(SequenceId sequence, int n) {
    const int k_heads = at_.n_k_heads / at_.n_groups(), v_heads = at_.n_v_heads / at_.n_groups();
    for (int i = 0; i < n; ++i) {
      const int32_t p = next_[sequence]++;
      for (int group = 0; group < at_.n_groups(); ++group) {
        std::vector<float> k, v;
        for (int h = group * k_heads; h < (group + 1) * k_heads; ++h) k.insert(k.end(), kDim, of(p, h));
        for (int h = group * v_heads; h < (group + 1) * v_heads; ++h) v.insert(v.end(), kDim, -of(p, h));
        cache_.append(sequence, 0, group, p, k.data(), v.data());
      }
      for (std::vector<int32_t>& head : held_[sequence]) head.push_back(p);
    }
  }
  void drop(SequenceId sequence, int head, int32_t begin, int32_t end) {
    cache_.drop(sequence, 0, head, begin, end);
    std::erase_if(list(sequence, head), [&](int32_t p) { return p >= begin && p < end; });
  }
  void retain(SequenceId sequence, int head, int32_t every) {
    cache_.retain(sequence, 0, head, [&](int32_t p) { return p % every == 0; });
    std::erase_if(list(sequence, head), [&](int32_t p) { return p % every != 0; });
  }
  void truncate(SequenceId sequence, int32_t n) {
    cache_.truncate(sequence, n);
    for (std::vector<int32_t>& head : held_[sequence]) std::erase_if(head, [&](int32_t p) { return p >= n; });
    next_[sequence] = std::min(next_[sequence], n);
  }
  void fork(SequenceId from, SequenceId to) {
    cache_.remove(to);
    cache_.fork(from, to);
    held_[to] = held_[from], next_[to] = next_[from];
  }
  int32_t next(SequenceId sequence) { return next_[sequence]; }
  void expect_equal() {
    uint64_t in_sequences = 0;
    for (auto& [sequence, heads] : held_) {
      for (int head = 0; head < n_heads(); ++head) {
        ASSERT_EQ(cache_.positions(sequence, 0, head), list(sequence, head)) << sequence << " " << head;
        ASSERT_EQ(cache_.n_keys(sequence, 0, head), static_cast<int64_t>(list(sequence, head).size()));
        for (const kernels::KeyBlock& block : cache_.blocks(sequence, 0, head)) {
          bool live = false;
          for (int slot = 0; slot < kernels::kPageKeys; ++slot) {
            const int32_t p = block.positions[slot];
            if (p == kernels::kNoPosition) continue;
            live = true;
            float k[kDim], v[kDim];
            kernels::key_read(block.k, kernels::KvType::kF32, kDim, slot, k);
            kernels::value_read(block.v, kernels::KvType::kF32, kDim, slot, v);
            ASSERT_EQ(k[0], of(p, head * at_.n_k_heads / n_heads()));
            ASSERT_EQ(v[0], -of(p, head * at_.n_v_heads / n_heads()));
          }
          ASSERT_TRUE(live);
        }
      }
      in_sequences += cache_.bytes(sequence);
    }
    ASSERT_LE(cache_.bytes(), in_sequences);
  }

 private:
  static float of(int32_t position, int head) { return static_cast<float>(1 + position * 16 + head); }
  std::vector<int32_t>& list(SequenceId sequence, int head) { return held_[sequence][static_cast<size_t>(head)]; }
  KvCache cache_;
  CacheShape::Layer at_;
  std::map<SequenceId, std::vector<std::vector<int32_t>>> held_;
  std::map<SequenceId, int32_t> next_;
};

TEST(KvCache, AnyCourseOfChangesKeepsWhatEachHeadHolds) {
  for (const auto& [n_k, n_v] : std::vector<std::pair<int, int>>{{2, 2}, {1, 3}, {2, 4}, {4, 2}, {3, 1}}) {
    TwinCache twin(n_k, n_v);
    Rng random(7);
    const auto below = [&](int n) { return static_cast<int>(random.below(static_cast<uint64_t>(n))); };
    twin.append(0, 100);
    twin.fork(0, 1);
    for (int step = 0; step < 400; ++step) {
      const SequenceId sequence = below(2);
      const int32_t n = std::max(1, twin.next(sequence));
      switch (below(8)) {
        case 0:
          if (below(4) == 0) twin.fork(sequence, 1 - sequence);
          break;
        case 1: twin.truncate(sequence, std::max(0, n - below(60))); break;
        case 2: twin.retain(sequence, below(twin.n_heads()), 1 + below(3)); break;
        case 3: twin.drop(sequence, below(twin.n_heads()), below(n), below(n)); break;
        case 4:  // of all heads, as a window does
          for (int head = 0; head < twin.n_heads(); ++head) twin.drop(sequence, head, 4, n - 50);
          break;
        default: twin.append(sequence, 1 + below(40));
      }
      ASSERT_NO_FATAL_FAILURE(twin.expect_equal()) << n_k << " " << n_v << " step " << step;
    }
    twin.cache().remove(0), twin.cache().remove(1);
    EXPECT_EQ(twin.cache().bytes(), 0u);
  }
}

TEST(KvCache, FewerKeyHeadsTakeFewerBytes) {
  const size_t key = kernels::key_bytes(kernels::KvType::kF32, kDim),
               value = kernels::value_bytes(kernels::KvType::kF32, kDim);
  for (const auto& [n_k, n_v] : std::vector<std::pair<int, int>>{{4, 16}, {16, 4}, {16, 16}, {1, 3}}) {
    TwinCache twin(n_k, n_v);
    twin.append(0, 64);
    EXPECT_EQ(twin.cache().bytes(), 2 * (static_cast<size_t>(n_k) * key + static_cast<size_t>(n_v) * value));
    EXPECT_EQ(twin.cache().bytes(0), twin.cache().bytes());
    const uint64_t ideal = static_cast<uint64_t>(twin.n_heads()) * twin.cache().ideal_bytes(0, 64);
    EXPECT_GE(ideal, twin.cache().bytes());
    EXPECT_LT(ideal, twin.cache().bytes() + 2 * static_cast<uint64_t>(twin.n_heads()));  // parts are rounded up
  }
}

TEST(KvCache, WhatHeadsShareGoesWithTheLastThatDropsIt) {
  const size_t key = kernels::key_bytes(kernels::KvType::kF32, kDim),
               value = kernels::value_bytes(kernels::KvType::kF32, kDim);
  TwinCache twin(1, 3);
  twin.append(0, 128);
  for (int head = 0; head < 3; ++head) {
    EXPECT_EQ(twin.cache().bytes(), 4 * key + (12 - static_cast<size_t>(2 * head)) * value);
    twin.drop(0, head, 32, 96);
  }
  EXPECT_EQ(twin.cache().bytes(), 2 * (key + 3 * value));
  twin.append(0, 32);
  twin.expect_equal();
}

TEST(KvCache, HolesOfAWholeGroupArePackedTogether) {
  TwinCache twin(1, 2);
  twin.append(0, 320);
  twin.retain(0, 0, 10);
  EXPECT_EQ(twin.cache().blocks(0, 0, 0).size(), 10u);  // the other head's keys keep the places
  twin.retain(0, 1, 10);
  EXPECT_EQ(twin.cache().bytes(), twin.cache().page_bytes(0, 2));
  twin.expect_equal();
}

TEST(KvCache, RefusesNumbersOfHeadsOfWhichNoneDividesTheOther) {
  EXPECT_THROW(TwinCache(2, 3), CheckFailed);
  EXPECT_THROW(TwinCache(0, 2), CheckFailed);
}

TEST(KvCache, RefusesPositionsThatDoNotRise) {
  KvCache cache = small_cache();
  append_range(cache, 0, 0, 0, 0, 3);
  const std::vector<float> x(kDim, 0.0f);
  EXPECT_THROW(cache.append(0, 0, 0, 2, x.data(), x.data()), CheckFailed);
  EXPECT_THROW(cache.append(0, 2, 0, 3, x.data(), x.data()), CheckFailed);
}

}  // namespace kv_cache_test
}  // namespace fovea::attention
