#include "fovea/engine/lookup.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string_view>

#include "fovea/base/testing/paths.h"
#include "fovea/engine/generate.h"
#include "fovea/tokenizers/tokenizer.h"

namespace fovea::engine {
namespace lookup_test {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

LookupIndex::Draft find(std::string_view text, size_t most, size_t n_tokens = 100) {
  LookupIndex index(n_tokens);
  for (const char c : text) index.push(c);
  LookupIndex::Draft draft;
  index.find(most, draft);
  return draft;
}

TEST(LookupIndex, DraftsWhatFollowedTheLongestAgreement) {
  const auto draft = find("a cat sat. the bat ran. one cat", 4);
  EXPECT_THAT(draft.tokens, ElementsAre(' ', 's', 'a', 't'));
  EXPECT_EQ(draft.match, 4);  // " cat"; the letters before it differ
  EXPECT_THAT(find("xcq yc", 1).tokens, ElementsAre('q'));
}

TEST(LookupIndex, OfEqualAgreementsTakesTheMostRecent) {
  EXPECT_THAT(find("abcd1 abcd2 abcd", 1).tokens, ElementsAre('2'));
}

TEST(LookupIndex, MeasuresAnAgreementPastWhatItSearchesBy) {
  EXPECT_EQ(find("abcdefghij. abcdefghij", 1).match, 10);
  EXPECT_EQ(find("0123456789abcdefghij. 0123456789abcdefghij", 1).match, LookupIndex::kLongMatch);
}

TEST(LookupIndex, GoesOnInThePeriodOfWhatOverlapsTheEnd) {
  EXPECT_THAT(find("xabab", 5).tokens, ElementsAre('a', 'b', 'a', 'b', 'a'));
  EXPECT_THAT(find("aa", 3).tokens, ElementsAre('a', 'a', 'a'));
}

TEST(LookupIndex, FindsNothingWhereNothingCameAgain) {
  for (const char* text : {"", "a", "abcdef"}) {
    const auto draft = find(text, 4);
    EXPECT_THAT(draft.tokens, IsEmpty()) << text;
    EXPECT_EQ(draft.match, 0) << text;
  }
  EXPECT_THAT(find("abcab", 0).tokens, IsEmpty());
}

TEST(LookupIndex, ATextLongerThanItsTablesForgetsButNeverMixesUp) {
  LookupIndex index(1);  // 1,024 places
  LookupIndex::Draft draft;
  int found = 0;
  for (int32_t i = 0; i < 20'000; ++i) {
    const int32_t token = i * 7919 % 6007;  // comes again after 6,007 tokens, and always the same follows
    index.push(token);
    index.find(1, draft);
    if (draft.match == 0) continue;
    ++found;
    EXPECT_EQ(draft.tokens[0], (token + 7919) % 6007);
  }
  EXPECT_LT(found, 1000);
}

TEST(DraftLength, IsLongWhereDraftsComeTrueAndNoneWhereTheyDoNot) {
  DraftLength good, bad;
  for (int i = 0; i < 200; ++i) {
    good.learn_pass(1, 0.010), bad.learn_pass(1, 0.010);
    good.learn_pass(5, 0.014), bad.learn_pass(5, 0.014);
    for (int match = 1; match <= LookupIndex::kLongMatch; ++match)
      good.learn_token(match, true), bad.learn_token(match, false);
  }
  EXPECT_EQ(good.choose(4, 16), 16);
  EXPECT_EQ(good.choose(4, 3), 3);
  EXPECT_EQ(bad.choose(4, 16), 0);
  EXPECT_EQ(good.choose(4, 0), 0);
}

TEST(DraftLength, IsNoneWherePassesOfSeveralTokensCostAsMuchAsTheTokensAlone) {
  DraftLength length;
  for (int i = 0; i < 50; ++i) {
    for (int n = 1; n <= DraftLength::kMost + 1; ++n) length.learn_pass(n, 0.010 * n);
  }
  EXPECT_EQ(length.choose(2, 16), 0);
}

TEST(DraftLength, OneSlowPassDoesNotEndIt) {
  DraftLength length;
  for (int i = 0; i < 20; ++i) length.learn_pass(1, 0.010), length.learn_pass(4, 0.012);
  ASSERT_EQ(length.choose(8, 3), 3);
  length.learn_pass(4, 10.0);
  EXPECT_GT(length.choose(8, 3), 0);
}

// Generation with drafts against generation without.
class Lookup : public ::testing::Test {
 protected:
  void SetUp() override { open("dense"); }
  void open(const std::string& attention, int n_ctx = 0) {
    static const auto model = Model::load(source_dir() + "/tests/data/tiny-llama.gguf");
    ASSERT_TRUE(model.has_value()) << model.error().message;
    SessionOptions options;
    options.attention = attention;
    options.n_ctx = n_ctx;
    auto session = Session::create(*model, options);
    ASSERT_TRUE(session.has_value()) << session.error().message;
    session_ = std::move(session).value();
    tokenizer_ = model.value()->tokenizer().value();
  }
  static GenerateOptions greedy(int n) {
    GenerateOptions options;
    options.n_predict = n;
    options.sampling.temperature = 0;
    options.ignore_eos = true;
    return options;
  }
  struct Answer {
    Generation generation;
    std::vector<std::string> streamed;
    std::vector<int32_t> told;
    int32_t length = 0;
    std::vector<float> next;  // logits after one token more: the cache is what it should be
  };
  Answer answer(GenerateOptions options, LookupOptions lookup) {
    Answer out;
    options.lookup = lookup;
    options.on_text = [&](std::string_view text) -> Status {
      out.streamed.emplace_back(text);
      return {};
    };
    options.on_token = [&, other = options.on_token](int32_t token) {
      out.told.push_back(token);
      if (other) other(token);
    };
    const SequenceId sequence = session_->begin();
    auto got = generate(*session_, sequence, prompt_, options);
    EXPECT_TRUE(got.has_value()) << got.error().message;
    if (!got) return out;
    out.generation = std::move(got).value();
    out.length = session_->length(sequence);
    if (out.length < session_->n_ctx()) {
      const Session::Step step{sequence, 50};
      const auto logits = session_->decode({&step, 1});
      EXPECT_TRUE(logits.has_value());
      if (logits) out.next.assign(logits->values().begin(), logits->values().end());
    }
    session_->remove(sequence);
    return out;
  }
  // The generation with drafts, after it was found equal to the one without.
  Generation same(const GenerateOptions& options, LookupOptions lookup = kAll) {
    const Answer plain = answer(options, {}), drafted = answer(options, lookup);
    EXPECT_EQ(drafted.generation.tokens, plain.generation.tokens);
    EXPECT_EQ(drafted.generation.text, plain.generation.text);
    EXPECT_EQ(drafted.generation.finish, plain.generation.finish);
    EXPECT_EQ(drafted.streamed, plain.streamed);
    EXPECT_EQ(drafted.told, plain.told);
    EXPECT_EQ(drafted.length, plain.length);
    EXPECT_EQ(drafted.next, plain.next);
    EXPECT_EQ(plain.generation.n_drafted, 0);
    EXPECT_LE(drafted.generation.n_accepted, drafted.generation.n_drafted);
    return drafted.generation;
  }

  static constexpr LookupOptions kAll{.max_drafted = 6, .adapt = false};
  std::unique_ptr<Session> session_;
  std::shared_ptr<const tokenizers::Tokenizer> tokenizer_;
  std::vector<int32_t> prompt_ = {40, 41, 42, 43, 44, 45, 40, 41, 42, 43, 46, 40, 41};
};

TEST_F(Lookup, GreedyAnswersAreThoseOfPlainDecoding) {
  int64_t accepted = 0, rejected = 0;
  const std::vector<int32_t> first = prompt_;
  for (int32_t shift = 0; shift < 8; ++shift) {  // what one prompt leads to depends on the instruction set
    for (size_t i = 0; i < first.size(); ++i) prompt_[i] = first[i] + 10 * shift;
    const Generation got = same(greedy(120));
    accepted += got.n_accepted, rejected += got.n_drafted - got.n_accepted;
  }
  EXPECT_GT(accepted, 0);
  EXPECT_GT(rejected, 0);
  prompt_ = first;
  same(greedy(120), {.max_drafted = 16, .adapt = true});
  for (int n = 1; n <= 3; ++n) same(greedy(60), {.max_drafted = n, .adapt = false});
}

TEST_F(Lookup, SampledAnswersAreThoseOfPlainDecodingWithTheSameSeed) {
  int64_t accepted = 0, rejected = 0;
  for (uint64_t seed = 0; seed < 6; ++seed) {
    GenerateOptions options = greedy(80);
    options.sampling = {.temperature = 0.3f, .seed = seed};
    options.sampling.repeat_penalty = seed % 2 == 0 ? 1.0f : 1.05f;
    options.sampling.repeat_last_n = 8;
    const Generation got = same(options);
    accepted += got.n_accepted, rejected += got.n_drafted - got.n_accepted;
  }
  EXPECT_GT(accepted, 0);
  EXPECT_GT(rejected, 0);
}

TEST_F(Lookup, EveryLengthEndsInMidDraftAsItDoesWithout) {
  for (int n = 0; n < 24; ++n) EXPECT_EQ(same(greedy(n)).tokens.size(), static_cast<size_t>(n));
}

TEST_F(Lookup, TheContextFillsToItsLastPosition) {
  for (int n_ctx = 13; n_ctx < 40; n_ctx += 3) {
    open("dense", n_ctx);
    const Generation got = same(greedy(-1));
    EXPECT_EQ(got.finish, Finish::kLength);
    EXPECT_EQ(got.tokens.size(), static_cast<size_t>(n_ctx - 13 + 1));
  }
}

TEST_F(Lookup, StopStringsAndEndTokensEndItWhereTheyDoWithout) {
  const Answer whole = answer(greedy(60), {});
  const std::string& text = whole.generation.text;
  int64_t drafted = 0;
  for (size_t at = 1; at + 3 < text.size(); at += 5) {
    GenerateOptions options = greedy(60);
    options.stop = {text.substr(at, 3)};
    drafted += same(options).n_drafted;
  }
  EXPECT_GT(drafted, 0);
  GenerateOptions options = greedy(60);
  options.ignore_eos = false;
  for (uint64_t seed = 0; seed < 8; ++seed) {
    options.sampling = {.temperature = 0.5f, .seed = seed};
    options.sampling.logit_bias = {{tokenizer_->eos(), 4.0f}};
    same(options);
  }
}

TEST_F(Lookup, ACancelledAnswerAndALostListenerLeaveNoDraftBehind) {
  std::atomic<bool> cancel{false};
  for (int after = 1; after < 12; ++after) {
    GenerateOptions options = greedy(50);
    options.cancel = &cancel;
    int told = 0;
    options.on_token = [&](int32_t) { cancel = ++told % after == 0; };
    cancel = false;
    const Answer plain = answer(options, {});
    cancel = false, told = 0;
    const Answer drafted = answer(options, kAll);
    EXPECT_EQ(drafted.generation.tokens, plain.generation.tokens);
    EXPECT_EQ(drafted.generation.finish, Finish::kCancelled);
    EXPECT_EQ(drafted.length, plain.length);
  }
  GenerateOptions options = greedy(50);
  options.lookup = kAll;
  int pieces = 0;
  options.on_text = [&](std::string_view) -> Status {
    return ++pieces < 9 ? Status() : make_error(ErrorCode::kIo, "gone");
  };
  int32_t n_told = 0;
  options.on_token = [&](int32_t) { ++n_told; };
  const SequenceId sequence = session_->begin();
  ASSERT_FALSE(generate(*session_, sequence, prompt_, options).has_value());
  EXPECT_EQ(session_->length(sequence), static_cast<int32_t>(prompt_.size()) + n_told - 1);
}

TEST_F(Lookup, IsOffWhereADraftCannotBeTakenBack) {
  open("streaming-llm:n_sink=2:window=6");
  EXPECT_FALSE(session_->can_verify(session_->begin()));
  EXPECT_EQ(same(greedy(40)).n_drafted, 0);
  open("dense");
  const SequenceId plain = session_->begin(), own = session_->begin();
  ASSERT_TRUE(session_->set_attention(own, "streaming-llm:n_sink=2:window=6").has_value());
  EXPECT_TRUE(session_->can_verify(plain));
  EXPECT_FALSE(session_->can_verify(own));
  const auto hook = session_->hooks().scoped("blocks.0.attn.hook_z", [](const std::string&, tensor::Tensor&) {});
  ASSERT_TRUE(hook.has_value()) << hook.error().message;
  EXPECT_FALSE(session_->can_verify(plain));
  EXPECT_EQ(same(greedy(40)).n_drafted, 0);
}

TEST_F(Lookup, AHookThatIsAttachedOnTheWaySeesEveryTokenFromThere) {
  int64_t drafted = 0;
  for (int at = 1; at < 16; ++at) {
    std::vector<int> seen;
    for (const LookupOptions& lookup : {LookupOptions{}, kAll}) {
      int told = 0, rows = 0;
      GenerateOptions options = greedy(40);
      options.on_token = [&](int32_t) {
        if (++told != at) return;
        const auto attached = session_->hooks().attach(
            "blocks.0.attn.hook_z", [&](const std::string&, tensor::Tensor& z) { rows += static_cast<int>(z.dim(0)); });
        EXPECT_TRUE(attached.has_value());
      };
      options.lookup = lookup;
      const SequenceId sequence = session_->begin();
      const auto made = generate(*session_, sequence, prompt_, options);
      ASSERT_TRUE(made.has_value());
      drafted += made->n_drafted;
      session_->hooks().clear();
      session_->remove(sequence);
      seen.push_back(rows);
    }
    EXPECT_EQ(seen[0], 40 - at);
    EXPECT_EQ(seen[1], seen[0]) << at;
  }
  EXPECT_GT(drafted, 0);
}

TEST_F(Lookup, ADraftOverTheEndOfAPageAndOfASegmentGivesTheBitsOfItsTokensAlone) {
  SessionOptions options;
  options.n_ctx = 1100;  // attention is joined from segments of 1,024 keys
  options.beyond_training = true;
  auto made = Session::create(Model::load(source_dir() + "/tests/data/tiny-llama.gguf").value(), options);
  ASSERT_TRUE(made.has_value()) << made.error().message;
  Session& session = **made;
  std::vector<int32_t> ids;
  for (int32_t i = 0; i < 1017; ++i) ids.push_back(3 + i * i % 250);
  const SequenceId drafted = session.begin();
  ASSERT_TRUE(session.prefill(drafted, ids).has_value());
  const SequenceId alone = session.fork(drafted);
  const std::vector<int32_t> draft(ids.begin(), ids.begin() + 17);
  const auto together = session.verify(drafted, draft);
  ASSERT_TRUE(together.has_value());
  for (size_t i = 0; i < draft.size(); ++i) {
    const Session::Step step{alone, draft[i]};
    const auto one = session.decode({&step, 1});
    ASSERT_TRUE(one.has_value());
    const auto row = together->values().subspan(i * one->values().size(), one->values().size());
    EXPECT_TRUE(std::equal(row.begin(), row.end(), one->values().begin())) << "token " << i;
  }
}

TEST_F(Lookup, UsesWhatTheSequenceHeldBefore) {
  const SequenceId sequence = session_->begin();
  const std::vector<int32_t> before = answer(greedy(60), {}).generation.tokens;
  std::vector<int32_t> all = prompt_;
  all.insert(all.end(), before.begin(), before.end());
  ASSERT_TRUE(session_->prefill(sequence, all).has_value());
  GenerateOptions options = greedy(12);
  options.lookup = kAll;
  const std::vector<int32_t> prompt = {40};
  const SequenceId other = session_->fork(sequence);
  const auto blind = generate(*session_, sequence, prompt, options);
  options.before = all;
  const auto seeing = generate(*session_, other, prompt, options);
  ASSERT_TRUE(blind.has_value() && seeing.has_value());
  EXPECT_EQ(seeing->tokens, blind->tokens);
  EXPECT_GT(seeing->n_drafted, blind->n_drafted);
}

TEST_F(Lookup, RefusesMoreDraftedTokensThanAPassTakes) {
  GenerateOptions options = greedy(4);
  options.lookup.max_drafted = LookupOptions::kMost + 1;
  const auto refused = generate(*session_, session_->begin(), prompt_, options);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, ErrorCode::kUsage);
  EXPECT_THAT(refused.error().message, HasSubstr("max_drafted"));
}

}  // namespace lookup_test
}  // namespace fovea::engine
