#include "fovea/attention/kv_snapshot.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <vector>

namespace fovea::attention {
namespace kv_snapshot_test {

using kernels::kNoPosition;
using kernels::kPageKeys;
using ::testing::HasSubstr;

constexpr int kDim = 8;
const CacheShape kShape = CacheShape::uniform(2, 2, kDim, kernels::KvType::kI16);

void append_range(KvCache& cache, int kv_head, int begin, int end) {
  for (int p = begin; p < end; ++p) {
    const std::vector<float> k(kDim, static_cast<float>(p)), v(kDim, static_cast<float>(-p));
    cache.append(0, 0, kv_head, p, k.data(), v.data());
  }
}

// Layer 0 with a full head and one that lost some: 100 tokens.
void fill(KvCache& cache) {
  append_range(cache, 0, 0, 100);
  append_range(cache, 1, 0, 100);
  cache.drop(0, 0, 1, 5, 61);
}

std::vector<std::byte> written(const KvCache& cache) {
  std::vector<std::byte> out;
  EXPECT_TRUE(write_layer(cache, 0, 0, [&](std::span<const std::byte> part) -> Status {
                out.insert(out.end(), part.begin(), part.end());
                return {};
              }).has_value());
  EXPECT_EQ(out.size(), layer_bytes(cache, 0, 0));
  return out;
}

Status read(KvCache& cache, std::span<const std::byte> bytes, int32_t n_tokens = 100) {
  cache.create(0);
  return read_layer(cache, 0, 0, bytes, n_tokens, "snapshot");
}

TEST(KvSnapshot, GivesBackTheSamePagesAndGoesOnAsTheOriginalDoes) {
  KvCache original(kShape), copy(kShape);
  fill(original);
  const Status done = read(copy, written(original));
  ASSERT_TRUE(done.has_value()) << done.error().message;
  for (int step = 0; step < 3; ++step) {  // as it was; then appended to; then cut back
    EXPECT_EQ(written(copy), written(original)) << step;
    EXPECT_EQ(copy.bytes(), original.bytes());
    for (KvCache* cache : {&original, &copy}) {
      if (step == 0) append_range(*cache, 0, 100, 110), append_range(*cache, 1, 100, 140);
      if (step == 1) cache->truncate(0, 90);
    }
    for (int kv = 0; kv < 2; ++kv) EXPECT_EQ(copy.positions(0, 0, kv), original.positions(0, 0, kv));
  }
}

// A layer of one key head and three value heads, of which each has dropped something else.
const CacheShape kSharing{
    .layers = {{1, 3, kDim, kDim}}, .k_type = kernels::KvType::kI16, .v_type = kernels::KvType::kI16};
void fill_shared(KvCache& cache) {
  for (int p = 0; p < 100; ++p) {
    const std::vector<float> x(3 * kDim, static_cast<float>(p));
    cache.append(0, 0, 0, p, x.data(), x.data());
  }
  cache.drop(0, 0, 1, 5, 61);
  cache.drop(0, 0, 2, 60, 100);
}

TEST(KvSnapshot, HeadsThatShareKeysComeBackAsTheyWere) {
  KvCache original(kSharing), copy(kSharing);
  fill_shared(original);
  const Status done = read(copy, written(original));
  ASSERT_TRUE(done.has_value()) << done.error().message;
  EXPECT_EQ(written(copy), written(original));
  EXPECT_EQ(copy.bytes(), original.bytes());
  for (int kv = 0; kv < 3; ++kv) EXPECT_EQ(copy.positions(0, 0, kv), original.positions(0, 0, kv));
}

TEST(KvSnapshot, RefusesHeadsOfAGroupThatDifferInAPosition) {
  KvCache original(kSharing), copy(kSharing);
  fill_shared(original);
  std::vector<std::byte> bytes = written(original);
  const int32_t other = 1;
  std::memcpy(bytes.data() + 12 + 4 * kPageKeys, &other, sizeof(other));  // the second head's first key
  const Status done = read(copy, bytes);
  ASSERT_FALSE(done.has_value());
  EXPECT_THAT(done.error().message, HasSubstr("heads differ"));
}

TEST(KvSnapshot, AHeadThatHoldsNothingStaysSo) {
  KvCache original(kShape), copy(kShape);
  append_range(original, 0, 0, 3);
  append_range(original, 1, 0, 3);
  original.drop(0, 0, 1, 0, 3);
  const Status done = read(copy, written(original), 3);
  ASSERT_TRUE(done.has_value()) << done.error().message;
  EXPECT_EQ(copy.n_keys(0, 0, 1), 0);
  const float x[kDim] = {};
  EXPECT_ANY_THROW(copy.append(0, 0, 1, 2, x, x));  // position 2 was there once
  copy.append(0, 0, 1, 3, x, x);
}

TEST(KvSnapshot, RefusesEveryCutAndALongerOne) {
  KvCache original(kShape);
  fill(original);
  std::vector<std::byte> bytes = written(original);
  for (size_t n = 0; n < bytes.size(); n += 61) {
    KvCache copy(kShape);
    EXPECT_FALSE(read(copy, std::span(bytes).first(n)).has_value()) << n;
  }
  bytes.push_back({});
  KvCache copy(kShape);
  EXPECT_THAT(read(copy, bytes).error().message, HasSubstr("too many"));
}

// The int32 at a byte of the snapshot, set to something else.
Status with(size_t at, int32_t value, int32_t n_tokens = 100) {
  KvCache original(kShape), copy(kShape);
  fill(original);
  std::vector<std::byte> bytes = written(original);
  std::memcpy(bytes.data() + at, &value, sizeof(value));
  return read(copy, bytes, n_tokens);
}

TEST(KvSnapshot, RefusesWhatNoCacheHolds) {
  constexpr size_t kPages = 0, kUsed = 4, kLast = 8, kPositions = 12, kFourth = kPositions + 4 * 96;
  EXPECT_TRUE(with(kPages, 4).has_value());  // as it is
  EXPECT_FALSE(with(kPages, 5).has_value());
  EXPECT_FALSE(with(kPages, -1).has_value());  // 2^32 - 1 pages
  EXPECT_FALSE(with(kUsed, 0).has_value());
  EXPECT_FALSE(with(kUsed, 3).has_value());  // four keys are in it
  EXPECT_FALSE(with(kUsed, kPageKeys + 1).has_value());
  EXPECT_TRUE(with(kUsed, 9).has_value());  // dead slots may count as used
  EXPECT_FALSE(with(kLast, 98).has_value());
  EXPECT_FALSE(with(kLast, 100).has_value());
  EXPECT_FALSE(with(kPositions + 4, 0).has_value());
  EXPECT_FALSE(with(kPositions, -1).has_value());
  EXPECT_FALSE(with(kFourth + 12, 100).has_value());
  EXPECT_FALSE(with(kPages, 4, /*n_tokens=*/99).has_value());
  KvCache original(kShape), copy(kShape);
  append_range(original, 0, 0, 1);
  append_range(original, 1, 0, 1);
  std::vector<std::byte> bytes = written(original);
  std::memcpy(bytes.data() + kPositions, &kNoPosition, sizeof(kNoPosition));
  EXPECT_THAT(read(copy, bytes).error().message, HasSubstr("without a key"));
}

}  // namespace kv_snapshot_test
}  // namespace fovea::attention
