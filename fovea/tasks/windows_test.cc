#include "fovea/tasks/windows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fovea/base/testing/paths.h"

namespace fovea::tasks {
namespace windows_test {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

const std::string kText = "A window holds some tokens of a text, and the next one begins where it ends.";

std::shared_ptr<const engine::Model> tiny() {
  static const auto model = engine::Model::load(source_dir() + "/tests/data/tiny-llama.gguf");
  EXPECT_TRUE(model.has_value()) << model.error().message;
  return *model;
}

std::unique_ptr<engine::Session> session_of(int chunk) {
  auto session = engine::Session::create(tiny(), {.numerics = kernels::Numerics::kExact, .chunk = chunk});
  EXPECT_TRUE(session.has_value()) << session.error().message;
  return std::move(session).value();
}

TEST(Windows, AreCutFromTheTextAsOneAndItsRestIsLeftOut) {
  const auto all = tiny()->tokenizer().value()->encode(kText).value();
  const auto windows = cut_windows(kText, *tiny(), 8, 0);
  ASSERT_TRUE(windows.has_value()) << windows.error().message;
  EXPECT_EQ(windows->count(), all.size() / 8);
  for (size_t i = 0; i < windows->count(); ++i) {
    for (size_t j = 0; j < 8; ++j) EXPECT_EQ((*windows)[i][j], all[i * 8 + j]);
  }
  EXPECT_EQ(windows->first_scored(), 4u);
  EXPECT_EQ(windows->n_scored(), 3u);  // the last token of a window is predicted, and predicts nothing
  EXPECT_EQ(cut_windows(kText, *tiny(), 8, 2)->count(), 2u);
}

TEST(Windows, ATextShorterThanOneIsRefusedWithBothNumbers) {
  const auto windows = cut_windows("ab", *tiny(), 64, 0);
  ASSERT_FALSE(windows.has_value());
  EXPECT_EQ(windows.error().code, ErrorCode::kUsage);
  EXPECT_THAT(windows.error().message, AllOf(HasSubstr("tokens long"), HasSubstr("64")));
}

TEST(ScoreWindow, ShowsEachScoredRowOnceAndLeavesNoSequence) {
  const auto windows = cut_windows(kText, *tiny(), 12, 0);
  ASSERT_TRUE(windows.has_value()) << windows.error().message;
  const auto whole = session_of(512);
  std::vector<float> expected;
  const engine::SequenceId sequence = whole->begin();
  engine::PrefillOptions options;
  options.on_logits = [&](int64_t, const tensor::Tensor& logits) -> Status {
    expected.insert(expected.end(), logits.values().begin(), logits.values().end());
    return {};
  };
  ASSERT_TRUE(whole->prefill(sequence, (*windows)[1], options).has_value());

  const auto session = session_of(2);
  std::vector<size_t> firsts;
  std::vector<float> seen;
  const Status done =
      score_window(*session, *windows, 1, nullptr, [&](size_t first, const tensor::Tensor& logits) -> Status {
        firsts.push_back(first);
        seen.insert(seen.end(), logits.values().begin(), logits.values().end());
        return {};
      });
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_THAT(firsts, ElementsAre(6, 8, 10));
  const size_t vocab = expected.size() / 12;
  EXPECT_EQ(seen, std::vector<float>(expected.begin() + static_cast<ptrdiff_t>(6 * vocab),
                                     expected.begin() + static_cast<ptrdiff_t>(11 * vocab)));
  EXPECT_EQ(session->cache().bytes(), 0u);
}

TEST(ScoreWindow, StopsAtTheFlagAndLeavesNoSequence) {
  const auto windows = cut_windows(kText, *tiny(), 12, 1);
  ASSERT_TRUE(windows.has_value()) << windows.error().message;
  const auto session = session_of(2);
  std::atomic<bool> cancel{false};
  const Status done = score_window(*session, *windows, 0, &cancel, [&](size_t, const tensor::Tensor&) -> Status {
    cancel = true;
    return {};
  });
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, ErrorCode::kCancelled);
  EXPECT_EQ(session->cache().bytes(), 0u);
}

}  // namespace windows_test
}  // namespace fovea::tasks
