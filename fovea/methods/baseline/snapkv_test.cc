#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <string>
#include <vector>

#include "fovea/attention/testing/one_layer.h"

namespace fovea::attention {
namespace snapkv_test {

using ::testing::ElementsAreArray;
using ::testing::HasSubstr;
using ::testing::SizeIs;

void read(OneLayer& layer, int begin, int end, Phase phase) {
  Batch batch;
  batch.add(std::vector<int32_t>(static_cast<size_t>(end - begin), 0), begin, 0, phase);
  layer.run(batch, 0);
}

// In plain loops, of a text of n tokens: what the last `window` rows give each older key, over the two query heads of
// the KV head, a mean of `kernel` neighbours, the highest.
std::vector<int32_t> expected(const OneLayer& layer, int kv, int n, int window, int kernel, int n_kept) {
  const int n_old = n - window;
  std::vector<double> sums(static_cast<size_t>(n_old), 0.0), smooth(sums);
  for (int head = 2 * kv; head < 2 * kv + 2; ++head) {
    for (int row = n_old; row < n; ++row) {
      const std::vector<double> weights = layer.pattern(head, row, [](int32_t) { return true; });
      for (size_t key = 0; key < sums.size(); ++key) sums[key] += weights[key];
    }
  }
  for (int i = 0; i < n_old; ++i) {
    for (int j = std::max(0, i - kernel / 2); j <= std::min(n_old - 1, i + kernel / 2); ++j)
      smooth[static_cast<size_t>(i)] += sums[static_cast<size_t>(j)] / kernel;
  }
  std::vector<int32_t> kept(static_cast<size_t>(n_old));
  std::iota(kept.begin(), kept.end(), 0);
  std::sort(kept.begin(), kept.end(),
            [&](int32_t a, int32_t b) { return smooth[static_cast<size_t>(a)] > smooth[static_cast<size_t>(b)]; });
  kept.resize(static_cast<size_t>(n_kept - window));
  for (int row = n_old; row < n; ++row) kept.push_back(row);
  std::sort(kept.begin(), kept.end());
  return kept;
}

TEST(SnapKv, KeepsWhatTheLastRowsLookAtMost) {
  for (const int kernel : {1, 3, 5}) {
    OneLayer layer("snapkv:keep=0.4:window=6:kernel=" + std::to_string(kernel));
    read(layer, 0, 70, Phase::kPromptEnd);
    for (int kv = 0; kv < 2; ++kv)
      EXPECT_THAT(layer.cache.positions(0, 0, kv), ElementsAreArray(expected(layer, kv, 70, 6, kernel, 28))) << kernel;
  }
}

TEST(SnapKv, WaitsForTheEndOfThePrompt) {
  OneLayer whole("snapkv:budget=20:window=8:kernel=3"), chunks("snapkv:budget=20:window=8:kernel=3");
  read(whole, 0, 70, Phase::kPromptEnd);
  read(chunks, 0, 30, Phase::kPrompt);
  read(chunks, 30, 67, Phase::kPrompt);
  EXPECT_THAT(chunks.cache.positions(0, 0, 0), SizeIs(67));
  read(chunks, 67, 70, Phase::kPromptEnd);  // some of the rows that choose came before
  for (int kv = 0; kv < 2; ++kv) EXPECT_EQ(chunks.cache.positions(0, 0, kv), whole.cache.positions(0, 0, kv));
  EXPECT_THAT(whole.cache.positions(0, 0, 0), SizeIs(20));
}

TEST(SnapKv, CountsWhatStaysOfTheWholeText) {
  OneLayer layer("snapkv:keep=0.5:window=4");
  read(layer, 0, 40, Phase::kPromptEnd);
  read(layer, 40, 60, Phase::kDecode);
  EXPECT_THAT(layer.cache.positions(0, 0, 1), SizeIs(40));  // what is generated stays
  read(layer, 60, 80, Phase::kPromptEnd);
  EXPECT_THAT(layer.cache.positions(0, 0, 1), SizeIs(40));
}

TEST(SnapKv, KeepsTheRowsThatChooseAndAllThatFits) {
  OneLayer nothing("snapkv:keep=0:window=8"), all("snapkv:budget=50:window=8"), dense("snapkv:keep=1");
  for (OneLayer* layer : {&nothing, &all, &dense}) read(*layer, 0, 40, Phase::kPromptEnd);
  EXPECT_THAT(nothing.cache.positions(0, 0, 0), ElementsAreArray({32, 33, 34, 35, 36, 37, 38, 39}));
  EXPECT_THAT(all.cache.positions(0, 0, 0), SizeIs(40));
  EXPECT_THAT(dense.cache.positions(0, 0, 0), SizeIs(40));
}

TEST(SnapKv, AnEvenKernelHasNoMiddle) {
  const auto wrong = Pipeline::parse("snapkv:kernel=4", OneLayer::small_shape());
  ASSERT_FALSE(wrong.has_value());
  EXPECT_EQ(wrong.error().code, ErrorCode::kUsage);
  EXPECT_THAT(wrong.error().message, HasSubstr("kernel 4"));
}

}  // namespace snapkv_test
}  // namespace fovea::attention
