#include "fovea/probe/evidence/ask.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>  // mkdtemp

#include <filesystem>

#include "fovea/base/testing/paths.h"

namespace fovea::probe {
namespace ask_test {

using ::testing::SizeIs;

const std::vector<engine::Document> kDocuments = {{"a.txt", "The harbour lies in the north.\nNobody sails in June.\n"},
                                                  {"b.txt", "A lighthouse stands there.\n"}};

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

engine::DocumentPrompt prompt_of(const std::string& question) {
  auto prompt = engine::make_document_prompt(tiny()->source(), *tiny()->tokenizer().value(), kDocuments, question);
  EXPECT_TRUE(prompt.has_value()) << prompt.error().message;
  return *prompt;
}

engine::GenerateOptions greedy() {
  engine::GenerateOptions options;
  options.n_predict = 6;
  options.sampling.temperature = 0;
  return options;
}

engine::PrefixStore no_store() { return engine::PrefixStore({.dir = ""}); }

TEST(Ask, AnswersAsTheWholePromptReadAtOnceAndSaysWhereItLooked) {
  const engine::DocumentPrompt prompt = prompt_of("Where?");
  const auto plain = session_of();
  const auto expected = engine::generate(*plain, plain->begin(), prompt.tokens, greedy());
  ASSERT_TRUE(expected.has_value()) << expected.error().message;
  const auto session = session_of();
  engine::PrefixStore store = no_store();
  const auto asked = ask(*session, store, kDocuments, prompt, nullptr, greedy());
  ASSERT_TRUE(asked.has_value()) << asked.error().message;
  EXPECT_EQ(asked->answer.tokens, expected->tokens);
  EXPECT_EQ(asked->n_stored, 0u);
  EXPECT_EQ(asked->key_share, 1);
  EXPECT_EQ(asked->kv_bytes, asked->kv_bytes_dense);
  ASSERT_FALSE(asked->evidence.empty());
  for (const EvidenceSpan& span : asked->evidence) {
    const std::string& text = kDocuments.at(static_cast<size_t>(span.document)).text;
    EXPECT_NE(text.find(span.text), std::string::npos) << span.text;
  }
}

TEST(Ask, LeavesNoSequenceHoweverItEnds) {
  const auto session = session_of();
  engine::PrefixStore store = no_store();
  std::atomic<bool> cancel{true};
  engine::GenerateOptions options = greedy();
  options.cancel = options.prefill.cancel = &cancel;
  const auto stopped = ask(*session, store, kDocuments, prompt_of("Where?"), nullptr, options);
  ASSERT_FALSE(stopped.has_value());
  EXPECT_EQ(stopped.error().code, ErrorCode::kCancelled);
  EXPECT_EQ(session->cache().bytes(), 0u);
  ASSERT_TRUE(ask(*session, store, kDocuments, prompt_of("Where?"), nullptr, greedy()).has_value());
  EXPECT_EQ(session->cache().bytes(), 0u);
}

TEST(Ask, CountsTheKeysOfEachQuestionAlone) {
  const std::string sparse = "streaming-llm:n_sink=2,window=40";
  const engine::DocumentPrompt question = prompt_of("Where?");
  const engine::DocumentPrompt longer = prompt_of("Where, and of all the places in that text which one exactly?");
  engine::PrefixStore store = no_store();
  const auto fresh = session_of(sparse), used = session_of(sparse);
  ASSERT_TRUE(ask(*used, store, kDocuments, longer, nullptr, greedy()).has_value());
  const auto expected = ask(*fresh, store, kDocuments, question, nullptr, greedy());
  const auto found = ask(*used, store, kDocuments, question, nullptr, greedy());
  ASSERT_TRUE(expected.has_value() && found.has_value());
  EXPECT_LT(found->key_share, 0.9);
  EXPECT_EQ(found->key_share, expected->key_share);
  EXPECT_EQ(found->answer.tokens, expected->answer.tokens);
}

TEST(Ask, FindsWhatAnEarlierQuestionLeftAndAnswersTheSame) {
  std::string dir = ::testing::TempDir() + "/ask-XXXXXX";
  ASSERT_NE(mkdtemp(dir.data()), nullptr);
  const engine::DocumentPrompt prompt = prompt_of("Where?");
  const auto first_session = session_of(), second_session = session_of();
  engine::PrefixStore first_store({.dir = dir}), second_store({.dir = dir});
  const auto first = ask(*first_session, first_store, kDocuments, prompt_of("Who?"), nullptr, greedy());
  ASSERT_TRUE(first.has_value()) << first.error().message;
  first_store.flush(*first_session);
  EXPECT_EQ(first_session->cache().bytes(), 0u);
  const auto expected = ask(*first_session, first_store, kDocuments, prompt, nullptr, greedy());
  const auto found = ask(*second_session, second_store, kDocuments, prompt, nullptr, greedy());
  ASSERT_TRUE(expected.has_value() && found.has_value());
  EXPECT_EQ(found->n_stored, prompt.n_shared);
  EXPECT_EQ(found->answer.tokens, expected->answer.tokens);
  ASSERT_THAT(found->evidence, SizeIs(expected->evidence.size()));
  for (size_t i = 0; i < found->evidence.size(); ++i) EXPECT_EQ(found->evidence[i].score, expected->evidence[i].score);
  std::filesystem::remove_all(dir);
}

}  // namespace ask_test
}  // namespace fovea::probe
