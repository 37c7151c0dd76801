// Rows made for methods, observers and hooks, against the slow twin and the fused path.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <limits>
#include <mutex>
#include <set>
#include <thread>

#include "fovea/attention/testing/methods.h"
#include "fovea/attention/testing/one_layer.h"
#include "fovea/base/threads.h"
#include "fovea/tensor/exec.h"
#include "fovea/tensor/ops/math/add.h"

namespace fovea::attention {
namespace attend_rows_test {

using tensor::Tensor;

bool everything(int32_t) { return true; }
bool even(int32_t key) { return key % 2 == 0; }

TEST(Rows, OfAMethodThatChangesNothingGiveTheFusedZ) {
  OneLayer fused, rows("test-rows:head=2");
  const std::vector<float> a = fused.feed(150), b = rows.feed(150);
  for (int row = 0; row < 150; ++row) {
    for (const int head : {0, 1, 3}) ASSERT_EQ(rows.of_head(b, row, head), fused.of_head(a, row, head));
    // Two ways to add up: online softmax in tiles, and a whole row.
    EXPECT_THAT(rows.of_head(b, row, 2), testing::Pointwise(testing::FloatNear(1e-5f), fused.of_head(a, row, 2)));
  }
}

TEST(Rows, EditedScoresAndPatternsReachZ) {
  OneLayer layer("test-rows:head=1:odd=false:factor=-2");
  const std::vector<float> z = layer.feed(70);
  for (const int row : {0, 15, 16, 69}) {
    std::vector<double> pattern = layer.pattern(1, row, even);
    for (double& p : pattern) p *= -2;
    layer.expect_head(z, row, 1, layer.weighed(1, pattern), 2e-5);
  }
}

TEST(Rows, FollowRulesAndMasks) {
  OneLayer layer("streaming-llm:n_sink=2:window=8:positions=text,test-rows:head=0");
  const std::vector<float> z = layer.feed(70);
  layer.expect_head(z, 69, 0, layer.weighed(0, layer.pattern(0, 69, [](int32_t key) { return key < 2 || key > 61; })));
  OneLayer masked("test-strided:stride=5,test-rows:head=0");
  const std::vector<float> strided = masked.feed(70);
  masked.expect_head(strided, 69, 0,
                     masked.weighed(0, masked.pattern(0, 69, [](int32_t key) { return key % 5 == 0 || key == 69; })));
}

// Scores of every head are doubled by an op. Rows of it that did not run under the caller's numerics and arena count.
class OpsInRows final : public Method {
 public:
  static constexpr MethodInfo kInfo{
      .name = "test-ops", .title = "Ops", .paper = "none", .stages = kScore, .summary = "for tests"};
  const MethodInfo& info() const override { return kInfo; }
  bool edits_rows(int, int, bool) const override { return true; }
  void edit_scores(const RowView&, std::span<float> scores) const override {
    {  // waits for a second thread, where there is one
      std::unique_lock lock(mutex);
      threads.insert(std::this_thread::get_id());
      met.notify_all();
      met.wait_for(lock, std::chrono::seconds(5), [] { return threads.size() >= std::min<size_t>(2, n_threads); });
    }
    const tensor::Exec* exec = tensor::Exec::current();
    n_elsewhere += !exec || exec->arena != arena || exec->numerics != tensor::Numerics::kExact || exec->tape;
    const Tensor row = Tensor::from({1, static_cast<int64_t>(scores.size())}, scores);
    std::ranges::copy(tensor::add(row, row).values(), scores.begin());
  }
  static inline std::mutex mutex;
  static inline std::condition_variable met;
  static inline std::set<std::thread::id> threads;
  static inline size_t n_threads = 1;
  static inline std::atomic<int> n_elsewhere{0};
  static inline tensor::Arena* arena = nullptr;
};
FOVEA_REGISTER_METHOD(OpsInRows);

TEST(Rows, CallbacksMayUseOpsUnderTheCallersExecOnAnyThread) {
  for (const int threads : {1, 4}) {
    set_threads(threads);
    tensor::Arena arena;
    OpsInRows::arena = &arena, OpsInRows::n_elsewhere = 0;
    OpsInRows::threads.clear(), OpsInRows::n_threads = static_cast<size_t>(threads);
    tensor::Exec exec{.arena = &arena, .numerics = tensor::Numerics::kExact};
    const tensor::ExecScope scope(exec);
    OneLayer doubled("test-ops"), hooked("test-ops"), twice;
    twice.use([](AttentionShape& site) { site.scale *= 2; });
    ASSERT_TRUE(hooked.hooks.attach("blocks.0.attn.hook_pattern", [](const std::string&, Tensor&) {}).has_value());
    const std::vector<float> z = doubled.feed(70), expected = twice.feed(70);
    OpsInRows::threads.clear();  // the hooked path meets anew
    EXPECT_THAT(z, testing::Pointwise(testing::FloatNear(1e-5f), expected));
    EXPECT_THAT(hooked.feed(70), testing::Pointwise(testing::FloatNear(1e-5f), expected));
    EXPECT_EQ(OpsInRows::n_elsewhere, 0) << threads;
  }
  set_threads(0);
}

// Keeps every row of one head by position of the key.
class Recorder final : public RowObserver {
 public:
  explicit Recorder(int head) : head_(head) {}
  bool wants(int, int head, bool) const override { return head == head_; }
  void see(const RowView& row, std::span<const float> pattern) override {
    EXPECT_EQ(row.head, head_);
    EXPECT_EQ(row.key_positions.size(), pattern.size());
    q_positions.push_back(row.q_pos);
    std::vector<float> by_position(static_cast<size_t>(row.q_pos) + 1, 0.0f);
    for (size_t i = 0; i < pattern.size(); ++i) {
      if (row.key_positions[i] <= row.q_pos) {
        by_position[static_cast<size_t>(row.key_positions[i])] = pattern[i];
      } else {
        EXPECT_EQ(pattern[i], 0.0f);
      }
    }
    rows.push_back(by_position);
  }
  std::vector<int32_t> q_positions;
  std::vector<std::vector<float>> rows;

 private:
  int head_;
};

TEST(Observers, SeeThePatternRowByRowAndChangeNoBit) {
  OneLayer watched, plain;
  Recorder recorder(3);
  watched.observers = {&recorder};
  EXPECT_EQ(watched.feed(40), plain.feed(40));
  EXPECT_EQ(watched.feed(1, true), plain.feed(1, true));
  ASSERT_EQ(recorder.rows.size(), 41u);
  for (int32_t row = 0; row <= 40; ++row) {
    EXPECT_EQ(recorder.q_positions[static_cast<size_t>(row)], row);
    const std::vector<double> expected = watched.pattern(3, row, everything);
    for (size_t key = 0; key < expected.size(); ++key)
      EXPECT_NEAR(recorder.rows[static_cast<size_t>(row)][key], expected[key], 1e-5);
  }
}

TEST(Observers, SeeWhatTheMethodsMadeOfThePattern) {
  OneLayer layer("test-rows:head=1:odd=false:factor=0.5");
  Recorder recorder(1);
  layer.observers = {&recorder};
  layer.feed(20);
  const std::vector<double> expected = layer.pattern(1, 19, even);
  for (size_t key = 0; key < expected.size(); ++key) EXPECT_NEAR(recorder.rows[19][key], 0.5 * expected[key], 1e-5);
}

TEST(RowHooks, ShowScoresAndPatternOfEveryHeadAndChangeNoBit) {
  OneLayer watched, plain;
  std::vector<float> scores, pattern;
  watched.feed(40), plain.feed(40);
  ASSERT_TRUE(watched.hooks
                  .attach("blocks.0.attn.hook_attn_scores",
                          [&](const std::string&, Tensor& t) {
                            EXPECT_EQ(t.shape(), (tensor::Shape{4, 5, 45}));
                            scores.assign(t.values().begin(), t.values().end());
                          })
                  .has_value());
  ASSERT_TRUE(watched.hooks
                  .attach("blocks.0.attn.hook_pattern",
                          [&](const std::string&, Tensor& t) { pattern.assign(t.values().begin(), t.values().end()); })
                  .has_value());
  EXPECT_EQ(watched.feed(5), plain.feed(5));
  for (size_t head = 0; head < 4; ++head) {
    for (size_t row = 0; row < 5; ++row) {
      const std::vector<double> expected =
          watched.pattern(static_cast<int>(head), static_cast<int32_t>(40 + row), everything);
      for (size_t key = 0; key < 45; ++key) {
        const size_t at = (head * 5 + row) * 45 + key;
        EXPECT_NEAR(pattern[at], key < expected.size() ? expected[key] : 0.0, 1e-5);
        EXPECT_EQ(std::isinf(scores[at]), key > 40 + row);
      }
    }
  }
}

TEST(RowHooks, AReplacedPatternDecidesZ) {
  OneLayer layer;
  ASSERT_TRUE(layer.hooks
                  .attach("blocks.0.attn.hook_pattern",
                          [](const std::string&, Tensor& p) {
                            p = Tensor::zeros(p.shape());
                            for (int64_t row = 0; row < 4 * 6; ++row)
                              p.data()[row * 6 + 2] = 1.0f;  // all look at key 2
                          })
                  .has_value());
  const std::vector<float> z = layer.feed(6);
  std::vector<double> key_two(6, 0.0);
  key_two[2] = 1.0;
  for (int head = 0; head < 4; ++head) layer.expect_head(z, 5, head, layer.weighed(head, key_two), 1e-7);
}

TEST(RowHooks, ReplacedScoresGoThroughTheSoftmax) {
  OneLayer layer;
  ASSERT_TRUE(layer.hooks
                  .attach("blocks.0.attn.hook_attn_scores",
                          [](const std::string&, Tensor& s) {
                            for (int64_t i = 0; i < s.elements(); ++i) {
                              if (s.data()[i] != -std::numeric_limits<float>::infinity()) s.data()[i] = 0.0f;
                            }
                          })
                  .has_value());
  const std::vector<float> z = layer.feed(6);
  layer.expect_head(z, 3, 1, layer.weighed(1, std::vector<double>(4, 0.25)));
}

}  // namespace attend_rows_test
}  // namespace fovea::attention
