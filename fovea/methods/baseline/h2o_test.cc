#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "fovea/attention/testing/one_layer.h"

namespace fovea::attention {
namespace h2o_test {

using ::testing::ElementsAreArray;
using ::testing::HasSubstr;
using ::testing::SizeIs;

// A layer, and in plain loops which keys of each KV head are left, with what all rows have given them.
struct Twin {
  explicit Twin(std::string_view spec, bool by_mean = false) : layer(spec), mean(by_mean) {}

  OneLayer layer;
  bool mean;
  std::array<std::map<int32_t, double>, 2> keys = {};

  void read(int begin, int end, Phase phase, size_t n_heavy, size_t n_recent) {
    Batch batch;
    batch.add(std::vector<int32_t>(static_cast<size_t>(end - begin), 0), begin, 0, phase);
    layer.run(batch, 0);
    for (int kv = 0; kv < 2; ++kv) {
      std::map<int32_t, double>& live = keys[static_cast<size_t>(kv)];
      for (int row = begin; row < end; ++row) live[row] = 0;
      for (int row = begin; row < end; ++row) {
        for (const int head : {2 * kv, 2 * kv + 1}) {
          const auto pattern = layer.pattern(head, row, [&](int32_t key) { return live.count(key) > 0; });
          for (auto& [key, sum] : live) sum += key <= row ? pattern[static_cast<size_t>(key)] : 0;
        }
      }
      if (phase != Phase::kPrompt) drop(live, end, n_heavy, n_recent);
      std::vector<int32_t> left;
      for (const auto& [key, sum] : live) left.push_back(key);
      ASSERT_THAT(layer.cache.positions(0, 0, kv), ElementsAreArray(left)) << "after row " << end - 1;
    }
  }
  void drop(std::map<int32_t, double>& live, int n_text, size_t n_heavy, size_t n_recent) const {
    while (live.size() > n_heavy + n_recent) {
      auto least = live.end();
      for (auto at = live.begin(); at != live.end() && at->first < n_text - static_cast<int>(n_recent); ++at) {
        if (least == live.end() || score(*at, n_text) < score(*least, n_text)) least = at;
      }
      live.erase(least);
    }
  }
  double score(const std::pair<const int32_t, double>& key, int n_text) const {
    return mean ? key.second / (n_text - key.first) : key.second;
  }
};

TEST(H2o, KeepsWhatAllRowsLookAtMostAndTheLast) {
  for (const bool mean : {false, true}) {
    Twin twin(std::string("h2o:heavy=0.2:recent=0.1:by=") + (mean ? "mean" : "sum"), mean);
    twin.read(0, 33, Phase::kPrompt, 0, 0);  // nothing leaves
    twin.read(33, 70, Phase::kPromptEnd, 14, 7);
    EXPECT_THAT(twin.keys[0], SizeIs(21));
  }
}

TEST(H2o, ABudgetHoldsAtEveryStepAndSumsGoOn) {
  Twin twin("h2o:heavy=0.3:recent=0.1:budget=16");
  twin.read(0, 50, Phase::kPromptEnd, 12, 4);
  for (int at = 50; at < 90; ++at) twin.read(at, at + 1, Phase::kDecode, 12, 4);
  twin.read(90, 120, Phase::kPromptEnd, 12, 4);
  EXPECT_THAT(twin.keys[1], SizeIs(16));
  for (int at = 120; at < 125; ++at) twin.read(at, at + 1, Phase::kDecode, 12, 4);
}

TEST(H2o, SharesOfTheTextGrowWithIt) {
  Twin twin("h2o:heavy=0.25:recent=0.25");
  twin.read(0, 40, Phase::kPromptEnd, 10, 10);
  twin.read(40, 41, Phase::kDecode, 11, 11);
  twin.read(41, 60, Phase::kDecode, 15, 15);
}

TEST(H2o, AllStaysWhereItFitsOrTheSharesAreTheWhole) {
  for (const char* spec : {"h2o:budget=50", "h2o:heavy=1", "h2o:heavy=0.5:recent=0.5"}) {
    OneLayer layer(spec);
    layer.feed(40, /*decoding=*/true);
    EXPECT_THAT(layer.cache.positions(0, 0, 0), SizeIs(40)) << spec;
  }
}

TEST(H2o, NoShareAtAllIsRefusedByName) {
  const auto wrong = Pipeline::parse("h2o:heavy=0:recent=0", OneLayer::small_shape());
  ASSERT_FALSE(wrong.has_value());
  EXPECT_EQ(wrong.error().code, ErrorCode::kUsage);
  EXPECT_THAT(wrong.error().message, HasSubstr("heavy and recent"));
}

}  // namespace h2o_test
}  // namespace fovea::attention
