#include "fovea/probe/evidence/conversation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>  // mkdtemp

#include <filesystem>

#include "fovea/base/testing/paths.h"

namespace fovea::probe {
namespace conversation_test {

using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

const std::vector<engine::Document> kDocuments = {{"a.txt", "The harbour lies in the north.\nNobody sails in June.\n"}};

std::shared_ptr<const engine::Model> tiny() {
  static const auto model = engine::Model::load(source_dir() + "/tests/data/tiny-llama.gguf");
  EXPECT_TRUE(model.has_value()) << model.error().message;
  return *model;
}

std::unique_ptr<engine::Session> session_of(int n_ctx = 0) {
  auto session = engine::Session::create(tiny(), {.n_ctx = n_ctx});
  EXPECT_TRUE(session.has_value()) << session.error().message;
  return std::move(session).value();
}

engine::PrefixStore no_store() { return engine::PrefixStore({.dir = ""}); }

engine::GenerateOptions greedy() {
  engine::GenerateOptions options;
  options.n_predict = 5;
  options.sampling.temperature = 0;
  return options;
}

engine::Generation say(Conversation& conversation, const std::string& text) {
  auto answer = conversation.answer(text, greedy());
  EXPECT_TRUE(answer.has_value()) << answer.error().message;
  return answer ? *answer : engine::Generation();
}

TEST(Conversation, ALaterTurnReadsOnlyWhatIsNew) {
  const auto session = session_of();
  Conversation conversation(*session, no_store(), {.system = "Be brief."});
  const auto first = say(conversation, "Hello there, whoever you are"), second = say(conversation, "Why?");
  EXPECT_LT(second.n_prompt, first.n_prompt);
  EXPECT_THAT(conversation.turns(), SizeIs(4));
  EXPECT_EQ(conversation.turns()[3], second.text);
}

TEST(Conversation, TwoInOneSessionAnswerAsEachWouldAlone) {
  const auto shared = session_of(), own_a = session_of(), own_b = session_of();
  Conversation a(*shared, no_store(), {}), b(*shared, no_store(), {.system = "Be brief."});
  Conversation alone_a(*own_a, no_store(), {}), alone_b(*own_b, no_store(), {.system = "Be brief."});
  for (const char* text : {"One", "Two", "Three"}) {
    EXPECT_EQ(say(a, text).tokens, say(alone_a, text).tokens);
    EXPECT_EQ(say(b, text).tokens, say(alone_b, text).tokens);
  }
}

TEST(Conversation, ATurnThatIsStoppedInItsPromptIsAsIfItHadNotBeen) {
  const auto session = session_of(), other = session_of();
  Conversation conversation(*session, no_store(), {}), undisturbed(*other, no_store(), {});
  say(conversation, "One");
  say(undisturbed, "One");
  std::atomic<bool> cancel{true};
  engine::GenerateOptions options = greedy();
  options.cancel = options.prefill.cancel = &cancel;
  const auto stopped = conversation.answer("Something else that takes a while", options);
  ASSERT_FALSE(stopped.has_value());
  EXPECT_EQ(stopped.error().code, ErrorCode::kCancelled);
  EXPECT_THAT(conversation.turns(), SizeIs(2));
  EXPECT_EQ(say(conversation, "Two").tokens, say(undisturbed, "Two").tokens);
}

TEST(Conversation, ThatIsTooLongIsRefusedWithBothNumbersUntilItIsCleared) {
  const auto session = session_of(64);
  Conversation conversation(*session, no_store(), {.when_full = "; begin a new one"});
  const auto refused = conversation.answer(std::string(200, 'x'), greedy());
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, ErrorCode::kLimit);
  EXPECT_THAT(refused.error().message, AllOf(HasSubstr("holds 64"), EndsWith("; begin a new one")));
  say(conversation, "a");
  conversation.clear();
  EXPECT_THAT(conversation.turns(), IsEmpty());
  say(conversation, "b");
}

TEST(Conversation, AboutDocumentsSaysWhereTheLastAnswerLooked) {
  const auto session = session_of();
  {
    Conversation conversation(*session, no_store(), {.documents = kDocuments});
    say(conversation, "Where is it?");
    ASSERT_FALSE(conversation.evidence().empty());
    EXPECT_EQ(conversation.evidence()[0].document, 0);
    EXPECT_NE(kDocuments[0].text.find(conversation.evidence()[0].text), std::string::npos);
    conversation.clear();
    EXPECT_THAT(conversation.evidence(), IsEmpty());
    say(conversation, "When?");
    EXPECT_GT(session->cache().bytes(), 0u);
  }
  EXPECT_EQ(session->cache().bytes(), 0u) << "a conversation that is over keeps nothing";
}

TEST(Conversation, FindsDocumentsThatAnEarlierOneRead) {
  std::string dir = ::testing::TempDir() + "/conversation-XXXXXX";
  ASSERT_NE(mkdtemp(dir.data()), nullptr);
  const auto first = session_of(), second = session_of();
  Conversation before(*first, engine::PrefixStore({.dir = dir}), {.documents = kDocuments});
  const auto expected = say(before, "Where is it?");
  EXPECT_EQ(before.n_stored(), 0);
  before.flush();
  Conversation after(*second, engine::PrefixStore({.dir = dir}), {.documents = kDocuments});
  EXPECT_EQ(say(after, "Where is it?").tokens, expected.tokens);
  EXPECT_GE(after.n_stored(), static_cast<int32_t>(engine::PrefixStore::kLeastTokens));
  std::filesystem::remove_all(dir);
}

}  // namespace conversation_test
}  // namespace fovea::probe
