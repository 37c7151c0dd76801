#include "fovea/engine/generate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <numeric>

#include "fovea/base/testing/paths.h"
#include "fovea/tokenizers/tokenizer.h"
#include "fovea/tokenizers/utf8.h"

namespace fovea::engine {
namespace generate_test {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::Ne;

class Generate : public ::testing::Test {
 protected:
  void SetUp() override { open(0); }
  void open(int n_ctx) {
    SessionOptions options;
    options.n_ctx = n_ctx;
    options.chunk = 4;
    auto model = Model::load(source_dir() + "/tests/data/tiny-llama.gguf");
    ASSERT_TRUE(model.has_value()) << model.error().message;
    auto session = Session::create(*model, options);
    ASSERT_TRUE(session.has_value()) << session.error().message;
    session_ = std::move(session).value();
    tokenizer_ = model.value()->tokenizer().value();
  }
  Result<Generation> result(const GenerateOptions& options) {
    sequence_ = session_->begin();
    return generate(*session_, sequence_, prompt_, options);
  }
  Generation answer(const GenerateOptions& options) {
    auto out = result(options);
    EXPECT_TRUE(out.has_value()) << out.error().message;
    return out ? std::move(out).value() : Generation{};
  }
  static GenerateOptions greedy(int n) {
    GenerateOptions options;
    options.n_predict = n;
    options.sampling.temperature = 0;
    return options;
  }

  std::unique_ptr<Session> session_;
  std::shared_ptr<const tokenizers::Tokenizer> tokenizer_;
  SequenceId sequence_ = 0;
  std::vector<int32_t> prompt_ = {40, 41, 42, 43, 44, 45};
};

TEST_F(Generate, GreedyTokensAreTheLikeliestOfEachStep) {
  const Generation got = answer(greedy(6));
  EXPECT_EQ(got.finish, Finish::kLength);
  EXPECT_EQ(got.n_prompt, 6);
  ASSERT_EQ(got.tokens.size(), 6u);
  std::vector<int32_t> tokens = prompt_;
  for (const int32_t token : got.tokens) {
    const auto logits = session_->prefill(session_->begin(), tokens);
    ASSERT_TRUE(logits.has_value());
    EXPECT_EQ(token, std::max_element(logits->begin(), logits->end()) - logits->begin());
    tokens.push_back(token);
  }
  EXPECT_EQ(session_->length(sequence_), 6 + 5);  // all but the last, which nothing was asked about
}

TEST_F(Generate, SameSeedSameAnswerAnotherSeedAnother) {
  GenerateOptions options;
  options.n_predict = 20;
  options.sampling.seed = 3;
  const Generation a = answer(options);
  EXPECT_EQ(answer(options).tokens, a.tokens);
  options.sampling.seed = 4;
  EXPECT_NE(answer(options).tokens, a.tokens);
}

TEST_F(Generate, StreamsTheTextInWholeCharactersAndTokensAsTheyCome) {
  GenerateOptions options;
  options.n_predict = 40;
  options.sampling.temperature = 5;  // bytes of all kinds
  std::string streamed;
  std::vector<int32_t> tokens;
  options.on_text = [&](std::string_view text) -> Status {
    EXPECT_TRUE(tokenizers::is_utf8(text)) << text;
    streamed += text;
    return {};
  };
  options.on_token = [&](int32_t token) { tokens.push_back(token); };
  const Generation got = answer(options);
  EXPECT_EQ(streamed, got.text);
  EXPECT_EQ(tokens, got.tokens);
  EXPECT_EQ(got.text, tokenizers::replace_invalid_utf8(tokenizer_->decode(got.tokens).value()));
}

TEST_F(Generate, AStopStringEndsTheAnswerBeforeItAcrossTokens) {
  GenerateOptions options = greedy(12);
  // Letters only, one byte a token, so that a stop string spans tokens: every other token is banned.
  options.sampling.logit_bias = {{70, 100.0f}, {71, 100.0f}, {72, 100.0f}, {73, 100.0f}};
  const std::string whole = answer(options).text;
  ASSERT_GE(whole.size(), 6u);
  const std::string stop = whole.substr(2, 3);
  options.stop = {"never", stop};
  const Generation got = answer(options);
  EXPECT_EQ(got.finish, Finish::kStop);
  EXPECT_EQ(got.text, whole.substr(0, whole.find(stop)));
  EXPECT_LT(got.tokens.size(), 12u);
}

TEST_F(Generate, AnEndTokenStopsAndIsNotPartOfTheAnswer) {
  GenerateOptions options = greedy(-1);
  options.sampling.logit_bias = {{tokenizer_->eos(), 1e5f}};
  const Generation got = answer(options);
  EXPECT_EQ(got.finish, Finish::kStop);
  EXPECT_THAT(got.tokens, ::testing::IsEmpty());
  EXPECT_EQ(got.text, "");
  options.ignore_eos = true;
  options.n_predict = 30;
  const Generation on = answer(options);
  EXPECT_EQ(on.finish, Finish::kLength);
  EXPECT_THAT(on.tokens, Each(Ne(tokenizer_->eos())));
}

TEST_F(Generate, H10_AFullContextEndsWithLengthAndALongerPromptIsRefused) {
  open(6);
  GenerateOptions options = greedy(-1);
  options.ignore_eos = true;
  const Generation full = answer(options);  // the prompt fills it: one token can still be told
  EXPECT_EQ(full.finish, Finish::kLength);
  EXPECT_EQ(full.tokens.size(), 1u);
  open(9);
  EXPECT_EQ(answer(options).tokens.size(), 4u);
  open(5);
  const auto refused = result(options);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, ErrorCode::kLimit);
  EXPECT_THAT(refused.error().message, AllOf(HasSubstr("6"), HasSubstr("5")));
  EXPECT_EQ(session_->length(sequence_), 0);
}

TEST_F(Generate, CancelledInTheAnswerGivesWhatThereIsInThePromptNothing) {
  std::atomic<bool> cancel{false};
  GenerateOptions options = greedy(50);
  options.cancel = options.prefill.cancel = &cancel;
  options.on_token = [&, n = 0](int32_t) mutable { cancel = ++n == 3; };
  const Generation got = answer(options);
  EXPECT_EQ(got.finish, Finish::kCancelled);
  EXPECT_EQ(got.tokens.size(), 3u);
  cancel = false;
  options.prefill.progress = [&](int64_t, int64_t) { cancel = true; };  // after the first chunk of two
  const auto stopped = result(options);
  ASSERT_FALSE(stopped.has_value());
  EXPECT_EQ(stopped.error().code, ErrorCode::kCancelled);
}

TEST_F(Generate, NoTokensWantedMeansThePromptOnly) {
  const Generation got = answer(greedy(0));
  EXPECT_EQ(got.finish, Finish::kLength);
  EXPECT_TRUE(got.tokens.empty());
  EXPECT_EQ(session_->length(sequence_), 6);
}

TEST_F(Generate, TheRepeatPenaltySeesWhatTheSequenceHeldBefore) {
  GenerateOptions options = greedy(1);
  const int32_t first = answer(options).tokens.at(0);
  options.sampling.repeat_penalty = 100;
  options.sampling.repeat_last_n = -1;
  EXPECT_EQ(answer(options).tokens.at(0), first);
  std::vector<int32_t> all(300);
  std::iota(all.begin(), all.end(), 0);
  const std::vector<int32_t> before = {first};
  options.before = before;
  EXPECT_NE(answer(options).tokens.at(0), first);
}

TEST_F(Generate, AnErrorOfTheListenerEndsIt) {
  GenerateOptions options = greedy(5);
  options.on_text = [](std::string_view) -> Status { return make_error(ErrorCode::kIo, "gone"); };
  const auto got = result(options);
  ASSERT_FALSE(got.has_value());
  EXPECT_EQ(got.error().message, "gone");
}

TEST_F(Generate, H7_WrongCountsAreRefusedByName) {
  EXPECT_THAT(result(greedy(-2)).error().message, HasSubstr("n_predict"));
  GenerateOptions options = greedy(1);
  options.stop = {""};
  EXPECT_THAT(result(options).error().message, HasSubstr("stop"));
  options = greedy(1);
  options.sampling.top_p = 2;
  EXPECT_THAT(result(options).error().message, HasSubstr("top_p"));
}

}  // namespace generate_test
}  // namespace fovea::engine
