#include "fovea/tasks/eval.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "fovea/engine/testing/golden.h"

namespace fovea::tasks {
namespace eval_test {

using ::testing::AllOf;
using ::testing::HasSubstr;

// The tiny model, at lengths that it was not trained for: its weights are random anyway.
class Evaluate : public ::testing::Test {
 protected:
  void SetUp() override {
    model_ = engine::load_model(engine::test_data("tiny-llama.gguf"));
    ASSERT_NE(model_, nullptr);
  }
  std::vector<Sample> samples(const std::string& task, int length, int n, Asking asking) const {
    SampleOptions options;
    options.length = length, options.n_samples = n, options.asking = asking;
    return make_samples(*find_task(task).value(), model_->source(), *model_->tokenizer().value(), options).value();
  }
  Result<EvalResult> evaluate(const std::string& task, std::span<const Sample> on, const EvalOptions& options) {
    const auto open = [&](std::string_view attention) {
      ++n_opened_;
      engine::SessionOptions session;
      session.attention = attention, session.n_ctx = n_ctx_, session.beyond_training = true;
      return engine::Session::create(model_, session);
    };
    return tasks::evaluate(*find_task(task).value(), on, open, options);
  }
  static EvalOptions with(const std::string& attention, Asking asking, bool paired = false) {
    EvalOptions out;
    out.attention = attention, out.asking = asking, out.paired = paired;
    return out;
  }

  std::shared_ptr<const engine::Model> model_;
  int n_ctx_ = 2048, n_opened_ = 0;
};

TEST_F(Evaluate, GivesTheSameTwice) {
  const auto on = samples("passkey", 400, 3, Asking::kSeen);
  int64_t done = 0, total = 0;
  size_t n_rows = 0;
  EvalOptions options = with("dense", Asking::kSeen, /*paired=*/true);
  options.progress = [&](int64_t d, int64_t t) { done = d, total = t; };
  options.on_row = [&](const EvalRow& row) { n_rows += row.sample == n_rows; };
  const auto first = evaluate("passkey", on, options), again = evaluate("passkey", on, options);
  ASSERT_TRUE(first.has_value()) << first.error().message;
  ASSERT_EQ(first->rows.size(), 3u);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(first->rows[i].answer, again->rows[i].answer);
    EXPECT_EQ(first->rows[i].length, 400);
    EXPECT_FALSE(first->rows[i].answer.empty());
  }
  EXPECT_EQ(first->cost.prompt_tokens, 3 * 400);
  EXPECT_EQ(first->cost.key_share, 1);
  EXPECT_EQ(first->cost.kv_bytes, first->cost.kv_bytes_dense);
  EXPECT_GT(first->cost.kv_bytes, 0u);
  EXPECT_FALSE(first->paired.has_value()) << "dense beside dense";
  EXPECT_EQ(n_opened_, 2);
  EXPECT_EQ(done, 3 * 400);
  EXPECT_EQ(total, 3 * 400);
  EXPECT_EQ(n_rows, 3u);
}

TEST_F(Evaluate, LaterReadsAContextOnceAndForksItForEachQuestion) {
  const auto on = samples("passkey", 900, 1, Asking::kLater);
  const auto result = evaluate("passkey", on, with("dense", Asking::kLater));
  ASSERT_TRUE(result.has_value()) << result.error().message;
  ASSERT_EQ(result->rows.size(), 5u);
  size_t n_tokens = on[0].context.size();
  for (const auto& question : on[0].questions) n_tokens += question.tokens.size();
  EXPECT_EQ(result->cost.prompt_tokens, static_cast<int64_t>(n_tokens));
  // Each is answered as if it were the only one: as of one prompt, which dense attention cannot tell from two.
  for (size_t q = 0; q < 5; ++q) {
    Sample alone{on[0].context, {on[0].questions[q]}};
    const auto seen = evaluate("passkey", {&alone, 1}, with("dense", Asking::kSeen));
    EXPECT_EQ(result->rows[q].answer, seen->rows[0].answer) << q;
  }
}

TEST_F(Evaluate, AMethodThatDropsKeysDoesSoBeforeLaterQuestions) {
  const std::string snapkv = "snapkv:budget=32:window=8:kernel=3";
  const auto halves = samples("nll", 300, 2, Asking::kSeen);
  const auto seen = evaluate("nll", halves, with(snapkv, Asking::kSeen, true));
  const auto later = evaluate("nll", halves, with(snapkv, Asking::kLater, true));
  ASSERT_TRUE(seen.has_value() && later.has_value());
  ASSERT_TRUE(seen->paired && later->paired);
  // Seen: the prompt ends with what is scored, and nothing has left before.
  EXPECT_EQ(*seen->nll, *seen->paired->nll);
  EXPECT_EQ(*seen->kl, 0);
  EXPECT_EQ(*later->paired->nll, *seen->nll);
  EXPECT_GT(*later->kl, 1e-4);
  EXPECT_NE(*later->nll, *later->paired->nll);
  EXPECT_NEAR(later->score - later->paired->score, later->paired->difference, 1e-12);
  EXPECT_NEAR(later->rows[0].score, std::exp(-*later->rows[0].nll), 1e-12);
  EXPECT_LT(later->cost.kv_bytes, later->cost.kv_bytes_dense);

  // What dense attention cannot tell (above) it can: the question did not choose the keys.
  const auto asked = samples("passkey", 900, 1, Asking::kLater);
  const auto behind = evaluate("passkey", asked, with(snapkv, Asking::kLater));
  ASSERT_TRUE(behind.has_value()) << behind.error().message;
  int n_others = 0;
  for (size_t q = 0; q < 5; ++q) {
    Sample alone{asked[0].context, {asked[0].questions[q]}};
    n_others += behind->rows[q].answer != evaluate("passkey", {&alone, 1}, with(snapkv, Asking::kSeen))->rows[0].answer;
  }
  EXPECT_GT(n_others, 0);
}

TEST_F(Evaluate, RefusesWhatDoesNotFitAndStopsWhenAsked) {
  const auto on = samples("passkey", 400, 1, Asking::kSeen);
  n_ctx_ = 410;
  const auto refused = evaluate("passkey", on, with("dense", Asking::kSeen));
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, ErrorCode::kLimit);
  EXPECT_THAT(refused.error().message, AllOf(HasSubstr("400 tokens"), HasSubstr("410"), HasSubstr("--length")));
  n_ctx_ = 512;
  const std::atomic<bool> cancel = true;
  EvalOptions options = with("dense", Asking::kSeen);
  options.cancel = &cancel;
  EXPECT_EQ(evaluate("passkey", on, options).error().code, ErrorCode::kCancelled);
}

}  // namespace eval_test
}  // namespace fovea::tasks
