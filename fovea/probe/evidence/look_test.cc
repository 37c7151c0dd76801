#include "fovea/probe/evidence/look.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fovea/base/testing/paths.h"
#include "fovea/probe/evidence/ask.h"

namespace fovea::probe {
namespace look_test {

using ::testing::SizeIs;

const std::string kQuestion = "Where?";

std::vector<engine::Document> documents() {
  return {{"a.txt", "The harbour lies in the north.\n\nNobody sails in June.\n\nThe cat is red.\n\nA lighthouse.\n"}};
}

std::shared_ptr<const engine::Model> tiny() {
  static const auto model = engine::Model::load(source_dir() + "/tests/data/tiny-llama.gguf");
  EXPECT_TRUE(model.has_value()) << model.error().message;
  return *model;
}

std::unique_ptr<engine::Session> session_of(const std::string& attention = "dense") {
  auto session = engine::Session::create(tiny(), {.attention = attention});
  EXPECT_TRUE(session.has_value()) << session.error().message;
  return std::move(session).value();
}

engine::DocumentPrompt prompt_of(const std::vector<engine::Document>& documents) {
  auto prompt = engine::make_document_prompt(tiny()->source(), *tiny()->tokenizer().value(), documents, kQuestion);
  EXPECT_TRUE(prompt.has_value()) << prompt.error().message;
  return *prompt;
}

Asked ask_first(engine::Session& session, const engine::DocumentPrompt& prompt) {
  engine::GenerateOptions options;
  options.n_predict = 6, options.n_logprobs = 0;
  options.sampling.temperature = 0;
  engine::PrefixStore none({.dir = ""});
  auto asked = ask(session, none, documents(), prompt, nullptr, options);
  EXPECT_TRUE(asked.has_value()) << asked.error().message;
  return std::move(asked).value();
}

// Two passages or more, whatever the text's length.
LookOptions near() {
  LookOptions options;
  options.least = LookOptions::kWhole;
  options.passages.most_tokens = 60, options.passages.least_tokens = 1;
  options.n_predict = 6;
  return options;
}

// The mean log-probability of the question behind `text`, from the whole prompt read at once.
double question_behind(const std::string& text) {
  const engine::DocumentPrompt prompt = prompt_of({{"", text}});
  double sum = 0;
  size_t n = 0;
  engine::PrefillOptions options;
  options.on_logits = [&](int64_t first, const tensor::Tensor& logits) -> Status {
    const auto width = static_cast<size_t>(logits.dim(1));
    for (size_t i = 0; i < static_cast<size_t>(logits.dim(0)); ++i) {
      const size_t next = static_cast<size_t>(first) + i + 1;
      if (next < prompt.n_shared || next >= prompt.tokens.size()) continue;
      sum +=
          double{engine::logprobs_of(logits.values().subspan(i * width, width), prompt.tokens[next], 0).chosen.logprob};
      ++n;
    }
    return {};
  };
  const auto session = session_of();
  EXPECT_TRUE(session->prefill(session->begin(), prompt.tokens, options).has_value());
  return sum / static_cast<double>(n);
}

TEST(Look, ReadsThePassagesAloneAndRanksThemByTheQuestion) {
  const auto session = session_of();
  const engine::DocumentPrompt prompt = prompt_of(documents());
  const Asked first = ask_first(*session, prompt);
  const auto looked = look_again(*session, documents(), kQuestion, prompt, first.answer, first.seen, {}, near());
  ASSERT_TRUE(looked.has_value()) << looked.error().message;
  ASSERT_GE(looked->looks.size(), 3u);
  EXPECT_EQ(looked->looks[0].answer, first.answer.text);
  EXPECT_EQ(looked->looks[0].view, View::kWhole);
  EXPECT_FALSE(looked->looks[1].tokens.empty());
  EXPECT_TRUE(looked->looks[2].tokens.empty());  // only the best one answers
  const double nothing = question_behind("...");
  for (size_t i = 1; i < looked->looks.size(); ++i) {
    const Look& look = looked->looks[i];
    const std::string text = documents()[0].text.substr(look.passage.begin, look.passage.end - look.passage.begin);
    EXPECT_NEAR(look.question, question_behind(text) - nothing, 1e-9) << text;  // sums of the same floats
    if (i > 1) {
      EXPECT_LE(look.question, looked->looks[i - 1].question);
    }
  }
  EXPECT_EQ(session->cache().bytes(), 0u);
}

TEST(Look, TheAnswerOfAPassageIsThatOfItsPromptAlone) {
  const auto session = session_of();
  const engine::DocumentPrompt prompt = prompt_of(documents());
  const Asked first = ask_first(*session, prompt);
  const auto looked = look_again(*session, documents(), kQuestion, prompt, first.answer, first.seen, {}, near());
  ASSERT_TRUE(looked.has_value()) << looked.error().message;
  ASSERT_GE(looked->looks.size(), 2u);
  const Passage& best = looked->looks[1].passage;
  const engine::DocumentPrompt alone = prompt_of({{"", documents()[0].text.substr(best.begin, best.end - best.begin)}});
  engine::GenerateOptions options;
  options.n_predict = 6;
  options.sampling.temperature = 0;
  const auto expected = engine::generate(*session, session->begin(), alone.tokens, options);
  ASSERT_TRUE(expected.has_value());
  EXPECT_EQ(looked->looks[1].tokens, expected->tokens);
}

TEST(Look, OfAShortTextThereIsNone) {
  const auto session = session_of();
  const engine::DocumentPrompt prompt = prompt_of(documents());
  const Asked first = ask_first(*session, prompt);
  const auto looked = look_again(*session, documents(), kQuestion, prompt, first.answer, first.seen, {});
  ASSERT_TRUE(looked.has_value()) << looked.error().message;
  EXPECT_THAT(looked->looks, SizeIs(1));
  EXPECT_TRUE(looked->supported);
  EXPECT_EQ(looked->chosen, 0u);
}

TEST(Look, RunsWithEveryKindOfAttentionAndTwiceAlike) {
  for (const char* attention : {"dense", "streaming-llm:n_sink=2,window=40"}) {
    const auto session = session_of(attention);
    const engine::DocumentPrompt prompt = prompt_of(documents());
    const Asked first = ask_first(*session, prompt);
    const auto a = look_again(*session, documents(), kQuestion, prompt, first.answer, first.seen, {}, near());
    const auto b = look_again(*session, documents(), kQuestion, prompt, first.answer, first.seen, {}, near());
    ASSERT_TRUE(a.has_value() && b.has_value()) << attention;
    ASSERT_GE(a->looks.size(), 2u) << attention;
    EXPECT_EQ(a->looks[1].tokens, b->looks[1].tokens) << attention;
    EXPECT_EQ(a->looks[1].question, b->looks[1].question) << attention;
  }
}

TEST(Look, BeginsWithTheRowsThatEveryPromptBeginsWith) {
  const auto session = session_of();
  const engine::DocumentPrompt prompt = prompt_of(documents());
  const Asked first = ask_first(*session, prompt);
  const engine::SequenceId begun = session->begin();
  ASSERT_TRUE(session->prefill(begun, std::vector<int32_t>{5, 6, 7}).has_value());
  const auto with = look_again(*session, documents(), kQuestion, prompt, first.answer, first.seen, begun, near());
  const auto without = look_again(*session, documents(), kQuestion, prompt, first.answer, first.seen, {}, near());
  ASSERT_TRUE(with.has_value() && without.has_value());
  EXPECT_NE(with->looks[1].question, without->looks[1].question);
  EXPECT_EQ(session->length(begun), 3);
}

TEST(Look, InterruptedLeavesNothingBehind) {
  const auto session = session_of();
  const engine::DocumentPrompt prompt = prompt_of(documents());
  const Asked first = ask_first(*session, prompt);
  std::atomic<bool> cancel{true};
  LookOptions options = near();
  options.cancel = &cancel;
  const auto looked = look_again(*session, documents(), kQuestion, prompt, first.answer, first.seen, {}, options);
  ASSERT_FALSE(looked.has_value());
  EXPECT_EQ(looked.error().code, ErrorCode::kCancelled);
  EXPECT_EQ(session->cache().bytes(), 0u);
}

}  // namespace look_test
}  // namespace fovea::probe
