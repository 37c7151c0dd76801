// What a decode step costs beside its arithmetic: barriers of the thread pool, and the heap.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <new>
#include <optional>
#include <string>
#include <vector>

#include "fovea/base/testing/count_allocations.h"
#include "fovea/base/testing/paths.h"
#include "fovea/base/threads.h"
#include "fovea/engine/session.h"

namespace fovea::engine {
namespace decode_step_test {

std::string path_of(const std::string& name) {
  if (name.starts_with("tiny")) return source_dir() + "/tests/data/" + name + ".gguf";
  const char *models = std::getenv("FOVEA_MODELS"), *home = std::getenv("HOME");
  return (models ? std::string(models) : std::string(home ? home : "") + "/.local/share/fovea/models") + "/" + name +
         ".gguf";
}

// Sequences of different lengths, each fed a few steps, so that every buffer has its size.
class Decoding {
 public:
  Decoding(const std::string& path, int n_sequences) {
    auto model = Model::load(path, {});
    EXPECT_TRUE(model.has_value()) << model.error().message;
    auto session = Session::create(*model, {});
    EXPECT_TRUE(session.has_value()) << session.error().message;
    session_ = std::move(session).value();
    for (int i = 0; i < n_sequences; ++i) {
      const SequenceId sequence = session_->begin();
      EXPECT_TRUE(session_->prefill(sequence, std::vector<int32_t>(static_cast<size_t>(3 + i % 5), 7)).has_value());
      steps_.push_back({sequence, 5 + i});
    }
    for (int warm = 0; warm < 6; ++warm) step();
  }
  void step() { EXPECT_TRUE(session_->decode(steps_).has_value()); }
  int n_layers() const { return session_->shape().n_layers; }
  Session& session() { return *session_; }

 private:
  std::unique_ptr<Session> session_;
  std::vector<Session::Step> steps_;
};

class DecodeStep : public ::testing::TestWithParam<std::tuple<const char*, int>> {
 protected:
  void SetUp() override {
    if (!std::filesystem::exists(path_of(std::get<0>(GetParam())))) GTEST_SKIP() << "not in the store";
    set_threads(2);
  }
  void TearDown() override { set_threads(0); }
};
INSTANTIATE_TEST_SUITE_P(Tiny, DecodeStep,
                         ::testing::Combine(::testing::Values("tiny-llama", "tiny-qwen2"),
                                            ::testing::Values(1, 8, 64)));
INSTANTIATE_TEST_SUITE_P(Models, DecodeStep,
                         ::testing::Combine(::testing::Values("smollm2-135m"), ::testing::Values(1, 8, 32)));

TEST_P(DecodeStep, TakesAtMostEightBarriersALayer) {
  Decoding decoding(path_of(std::get<0>(GetParam())), std::get<1>(GetParam()));
  const uint64_t before = pool().n_jobs();
  decoding.step();
  const uint64_t jobs = pool().n_jobs() - before;
  EXPECT_GT(jobs, 0u);
  EXPECT_LE(jobs, 8u * static_cast<uint64_t>(decoding.n_layers()) + 2) << "and two for the vocabulary";
  RecordProperty("jobs", static_cast<int>(jobs));
}

// Reads every row of every head.
class Watcher final : public attention::RowObserver {
 public:
  bool wants(int, int, bool) const override { return true; }
  void see(const attention::RowView&, std::span<const float>) override { ++n_rows; }
  std::atomic<int64_t> n_rows{0};
};

TEST_P(DecodeStep, TakesNoMoreBarriersWithAnObserver) {
  Decoding decoding(path_of(std::get<0>(GetParam())), std::get<1>(GetParam()));
  Watcher watcher;
  decoding.session().observe(&watcher);
  const uint64_t before = pool().n_jobs();
  decoding.step();
  EXPECT_LE(pool().n_jobs() - before, 8u * static_cast<uint64_t>(decoding.n_layers()) + 2);
  EXPECT_EQ(watcher.n_rows,
            int64_t{decoding.n_layers()} * decoding.session().shape().n_heads * std::get<1>(GetParam()));
}

TEST_P(DecodeStep, ReachesTheHeapNever) {
  if (!FOVEA_COUNTS_ALLOCATIONS) GTEST_SKIP() << "allocations cannot be counted under the thread sanitizer";
  const uint64_t start = g_allocations;
  Decoding decoding(path_of(std::get<0>(GetParam())), std::get<1>(GetParam()));
  const uint64_t before = g_allocations;
  ASSERT_GT(before, start);                     // the counter works
  for (int i = 0; i < 5; ++i) decoding.step();  // within one page of keys: a new one is memory that stays
  EXPECT_EQ(g_allocations - before, 0u);
}

#if FOVEA_COUNTS_ALLOCATIONS
TEST(FailedAllocation, LeavesTheSequenceAsItWasOrEmpty) {
  set_threads(2);
  auto model = Model::load(path_of("tiny-llama"), {});
  ASSERT_TRUE(model.has_value()) << model.error().message;
  const std::vector<int32_t> first(31, 7), more(40, 9);
  for (const char* program : {"dense", "streaming-llm:n_sink=2:window=20"}) {
    const auto session_of = [&] {
      SessionOptions options;
      options.attention = program;
      auto session = Session::create(*model, options);
      EXPECT_TRUE(session.has_value());
      return std::move(session).value();
    };
    const auto straight = session_of();
    const SequenceId s = straight->begin();
    ASSERT_TRUE(straight->prefill(s, first).has_value());
    const auto want = straight->prefill(s, more);
    ASSERT_TRUE(want.has_value());
    int failures = 0;
    for (uint64_t nth = 1;; ++nth) {
      const auto failing = session_of();
      const SequenceId f = failing->begin();
      bool all_done = true;
      const auto feed = [&](const std::vector<int32_t>& ids) -> std::optional<std::vector<float>> {
        g_failing_allocation = g_allocations + nth;
        try {
          auto logits = failing->prefill(f, ids);
          g_failing_allocation = 0;
          if (logits) return *logits;
        } catch (const std::bad_alloc&) {
          g_failing_allocation = 0;
          all_done = false, ++failures;
        }
        return std::nullopt;
      };
      const auto refill = [&] { return failing->length(f) > 0 || failing->prefill(f, first).has_value(); };
      (void)feed(first);
      ASSERT_TRUE(refill()) << nth;
      ASSERT_EQ(failing->length(f), 31) << nth;
      auto found = feed(more);
      if (!found) {
        ASSERT_TRUE(refill()) << nth;
        EXPECT_EQ(failing->can_truncate(f, 5), program == std::string("dense")) << nth;
        const auto again = failing->prefill(f, more);
        ASSERT_TRUE(again.has_value()) << nth;
        found = *again;
      }
      ASSERT_EQ(*found, *want) << program << " " << nth;
      if (all_done) break;
    }
    EXPECT_GT(failures, 50);
  }
  set_threads(0);
}
#endif

}  // namespace decode_step_test
}  // namespace fovea::engine
