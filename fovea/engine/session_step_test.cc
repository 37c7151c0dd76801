// One pass over many sequences, each with a program, hooks and spans of its own; and passes that fail.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <stdexcept>

#include "fovea/base/check.h"
#include "fovea/base/testing/paths.h"
#include "fovea/engine/session.h"

namespace fovea::engine {
namespace session_step_test {

using attention::Phase;
using ::testing::ElementsAre;

std::unique_ptr<Session> session_of(const std::string& attention = "dense", const std::string& name = "tiny-llama") {
  auto model = Model::load(source_dir() + "/tests/data/" + name + ".gguf", {});
  EXPECT_TRUE(model.has_value()) << model.error().message;
  SessionOptions options;
  options.attention = attention;
  auto session = Session::create(*model, options);
  EXPECT_TRUE(session.has_value()) << session.error().message;
  return std::move(session).value();
}

std::vector<int32_t> ids_of(int n, int seed = 0) {
  std::vector<int32_t> ids;
  for (int i = 0; i < n; ++i) ids.push_back(3 + (i * i + 7 * i + 11 * seed) % 60);
  return ids;
}

std::vector<float> values(const Result<Tensor>& logits) {
  EXPECT_TRUE(logits.has_value()) << logits.error().message;
  if (!logits) return {};
  return {logits->values().begin(), logits->values().end()};
}

std::vector<float> decode(Session& session, SequenceId sequence, int32_t token) {
  const Session::Step step{sequence, token};
  return values(session.decode({&step, 1}));
}

constexpr const char* kPrograms[] = {"dense", "streaming-llm:n_sink=2:window=20", "scale:value=0.5:heads=1",
                                     "retrieval-heads:heads=0.1:mask_mode=mean", "retrieval-heads:heads=0+1"};

// The sequence of one of sixteen callers: its program, a hook that changes its residual stream, a span.
void prepare(Session& session, SequenceId sequence, int caller) {
  ASSERT_TRUE(session.set_attention(sequence, kPrograms[caller % 5]).has_value());
  if (caller % 3 == 0) {
    ASSERT_TRUE(session.hooks()
                    .attach("blocks.0.hook_resid_post", sequence,
                            [caller](const std::string&, Tensor& x) {
                              for (int64_t i = 0; i < x.elements(); ++i)
                                x.data()[i] += 0.01f * static_cast<float>(caller + 1);
                            })
                    .has_value());
  }
  session.set_spans(sequence, {{"caller", 0, caller}});
}

TEST(SessionStep, SixteenCallersOfOneBatchHaveTheBitsTheyHaveAlone) {
  for (const char* model : {"tiny-llama", "tiny-qwen2"}) {
    auto together = session_of("dense", model);
    std::vector<std::vector<float>> alone;
    std::vector<std::vector<int32_t>> prompts;
    std::vector<Session::Feed> feeds;
    for (int caller = 0; caller < 16; ++caller) prompts.push_back(ids_of(5 + 9 * caller, caller));
    for (int caller = 0; caller < 16; ++caller) {
      auto own = session_of("dense", model);
      const SequenceId s = own->begin(), t = together->begin();
      prepare(*own, s, caller);
      prepare(*together, t, caller);
      const Session::Feed prompt{s, prompts[static_cast<size_t>(caller)], Session::Logits::kAll, Phase::kPromptEnd};
      std::vector<float> rows = values(own->step({&prompt, 1}));
      for (const int32_t token : {5, 17, 9}) {
        const std::vector<float> next = decode(*own, s, token);
        rows.insert(rows.end(), next.begin(), next.end());
      }
      alone.push_back(std::move(rows));
      feeds.push_back({t, prompts[static_cast<size_t>(caller)], Session::Logits::kAll, Phase::kPromptEnd});
    }
    // Half of them decode while the other half still reads its prompt.
    std::vector<std::vector<float>> found(16);
    const auto run = [&](std::span<const Session::Feed> batch) {
      const std::vector<float> logits = values(together->step(batch));
      size_t at = 0;
      for (const Session::Feed& feed : batch) {
        const size_t n = feed.tokens.size() * static_cast<size_t>(together->shape().vocab_size);
        std::vector<float>& rows = found[static_cast<size_t>(feed.sequence)];
        rows.insert(rows.end(), logits.begin() + static_cast<ptrdiff_t>(at),
                    logits.begin() + static_cast<ptrdiff_t>(at + n));
        at += n;
      }
      EXPECT_EQ(at, logits.size());
    };
    run(std::span(feeds).first(8));
    const std::vector<int32_t> tokens = {5, 17, 9};
    for (size_t i = 0; i < 3; ++i) {
      std::vector<Session::Feed> batch;
      for (size_t caller = 0; caller < 8; ++caller)
        batch.push_back({feeds[caller].sequence, std::span(tokens).subspan(i, 1), Session::Logits::kAll});
      if (i == 0) batch.insert(batch.end(), feeds.begin() + 8, feeds.end());
      for (size_t caller = 8; caller < 16 && i > 0; ++caller)
        batch.push_back({feeds[caller].sequence, std::span(tokens).subspan(i - 1, 1), Session::Logits::kAll});
      run(batch);
    }
    std::vector<Session::Feed> last;
    for (size_t caller = 8; caller < 16; ++caller)
      last.push_back({feeds[caller].sequence, std::span(tokens).last(1), Session::Logits::kAll});
    run(last);
    for (size_t caller = 0; caller < 16; ++caller) EXPECT_EQ(found[caller], alone[caller]) << model << " " << caller;
  }
}

TEST(SessionStep, GivesTheLogitsAskedFor) {
  auto session = session_of();
  const SequenceId a = session->begin(), b = session->begin(), c = session->begin();
  const std::vector<int32_t> ids = ids_of(7);
  const Session::Feed feeds[] = {{a, ids, Session::Logits::kNone, Phase::kPrompt},
                                 {b, ids, Session::Logits::kLast, Phase::kPromptEnd},
                                 {c, ids, Session::Logits::kAll, Phase::kPromptEnd}};
  const auto logits = session->step(feeds);
  ASSERT_TRUE(logits.has_value());
  EXPECT_EQ(logits->dim(0), 8);
  EXPECT_THAT((std::vector<int32_t>{session->length(a), session->length(b), session->length(c)}), ElementsAre(7, 7, 7));
}

TEST(SessionStep, AForkHasTheProgramOfItsOrigin) {
  auto session = session_of();
  const SequenceId a = session->begin();
  ASSERT_TRUE(session->set_attention(a, "streaming-llm:n_sink=2:window=20").has_value());
  ASSERT_TRUE(session->prefill(a, ids_of(60)).has_value());
  const SequenceId b = session->fork(a);
  EXPECT_EQ(session->pipeline(b).spec(), "streaming-llm:n_sink=2:window=20");
  EXPECT_EQ(decode(*session, b, 5), decode(*session, a, 5));
  EXPECT_EQ(session->pipeline(session->begin()).spec(), "dense");
}

enum class Failure { kThrows, kNan, kCancelled };

class FailedPass : public ::testing::TestWithParam<std::tuple<const char*, Failure>> {};
INSTANTIATE_TEST_SUITE_P(All, FailedPass,
                         ::testing::Combine(::testing::ValuesIn(kPrograms),
                                            ::testing::Values(Failure::kThrows, Failure::kNan, Failure::kCancelled)));

TEST_P(FailedPass, LeavesTheSequenceAsItWasOrEmpty) {
  const auto [program, failure] = GetParam();
  const bool drops = std::string_view(program).starts_with("streaming");
  auto straight = session_of(program), failing = session_of(program);
  const SequenceId s = straight->begin(), f = failing->begin(), beside = failing->begin();
  const std::vector<int32_t> ids = ids_of(50), more = ids_of(30, 1);
  ASSERT_TRUE(straight->prefill(s, ids).has_value());
  ASSERT_TRUE(failing->prefill(f, ids).has_value());
  ASSERT_TRUE(failing->prefill(beside, ids).has_value());
  const auto check_and_refill = [&] {
    EXPECT_EQ(failing->length(f), drops ? 0 : 50);
    for (const SequenceId sequence : {f, beside}) {
      if (failing->length(sequence) == 0) {
        EXPECT_TRUE(failing->prefill(sequence, ids).has_value());
      }
    }
  };
  for (int i = 0; i < 2 && failure != Failure::kCancelled; ++i) {  // in a prompt's pass, and in a step of two
    {
      auto hook = failing->hooks().scoped("blocks.1.hook_mlp_in", [how = failure](const std::string&, Tensor& x) {
        if (how == Failure::kThrows) throw std::runtime_error("a callback's own");
        std::fill_n(x.data(), x.elements(), std::numeric_limits<float>::quiet_NaN());
      });
      ASSERT_TRUE(hook.has_value());
      const Session::Step steps[] = {{f, 5}, {beside, 9}};
      const auto pass = [&] {
        return i == 0 ? failing->prefill(f, more).has_value() : failing->decode(steps).has_value();
      };
      if (failure == Failure::kThrows) {
        EXPECT_THROW((void)pass(), std::runtime_error);
      } else {
        EXPECT_FALSE(pass());
      }
    }
    check_and_refill();
  }
  if (failure == Failure::kCancelled) {
    std::atomic<bool> cancel{false};
    PrefillOptions options;
    options.cancel = &cancel;
    {
      auto hook = failing->hooks().scoped("blocks.0.hook_mlp_in", [&](const std::string&, Tensor&) { cancel = true; });
      const auto stopped = failing->prefill(f, more, options);  // seen in the next layer
      ASSERT_FALSE(stopped.has_value());
      EXPECT_EQ(stopped.error().code, ErrorCode::kCancelled);
    }
    check_and_refill();
  }
  // The mean of a prompt counts what was fed.
  const auto expected = straight->prefill(s, more), found = failing->prefill(f, more);
  ASSERT_TRUE(expected.has_value() && found.has_value());
  EXPECT_EQ(*found, *expected);
  EXPECT_EQ(decode(*failing, f, 7), decode(*straight, s, 7));
}

TEST(SessionStep, AfterAThrowAtThePatternHooksOfASequenceSeeItsRowsAgain) {
  auto session = session_of();
  const SequenceId a = session->begin(), b = session->begin();
  const std::vector<int32_t> ids = ids_of(6);
  const Session::Feed feeds[] = {{a, ids}, {b, ids}};
  {
    auto hook =
        session->hooks().scoped("pattern0", [](const std::string&, Tensor&) { throw std::runtime_error("own"); });
    EXPECT_THROW((void)session->step(feeds), std::runtime_error);
  }
  std::vector<int64_t> rows;
  for (const SequenceId sequence : {a, b}) {
    ASSERT_TRUE(session->hooks()
                    .attach("resid_pre0", sequence, [&](const std::string&, Tensor& x) { rows.push_back(x.dim(0)); })
                    .has_value());
  }
  ASSERT_TRUE(session->step(feeds).has_value());
  EXPECT_THAT(rows, ElementsAre(6, 6));
}

TEST(SessionStep, APassBegunInAHookIsRefusedAndLeavesTheOuterOne) {
  auto plain = session_of(), session = session_of();
  const std::vector<int32_t> ids = ids_of(9), more = ids_of(40, 1);
  const SequenceId a = plain->begin(), b = session->begin(), c = session->begin();
  int refused = 0;
  auto hook = session->hooks().scoped("resid_pre1", [&](const std::string&, Tensor&) {
    for (const SequenceId sequence : {b, c}) {
      try {
        (void)session->prefill(sequence, more);
      } catch (const CheckFailed&) {
        ++refused;
      }
    }
  });
  ASSERT_TRUE(hook.has_value());
  const auto want = plain->prefill(a, ids), found = session->prefill(b, ids);
  ASSERT_TRUE(want.has_value() && found.has_value());
  EXPECT_EQ(refused, 2);
  EXPECT_EQ(*found, *want);
}

// Of all chunks but the last nobody asks for logits, so that the pass of a chunk may not see what went wrong in it.
TEST(SessionStep, APrefillThatFailsTakesBackAllOfItsChunks) {
  const auto model = Model::load(source_dir() + "/tests/data/tiny-llama.gguf", {});
  ASSERT_TRUE(model.has_value()) << model.error().message;
  for (const char* program : kPrograms) {
    SessionOptions options;
    options.attention = program, options.chunk = 16;
    auto straight = Session::create(*model, options), failing = Session::create(*model, options);
    ASSERT_TRUE(straight.has_value() && failing.has_value());
    const bool drops = std::string_view(program).starts_with("streaming");
    for (const int before : {0, 20}) {
      const SequenceId s = (*straight)->begin(), f = (*failing)->begin();
      const std::vector<int32_t> first = ids_of(20), more = ids_of(60, 1);
      for (Session* session : {straight->get(), failing->get()}) {
        if (before == 0) continue;
        ASSERT_TRUE(session->prefill(session == straight->get() ? s : f, first).has_value());
      }
      for (const bool throws : {false, true}) {
        int calls = 0;
        {
          auto hook = (*failing)->hooks().scoped("blocks.0.hook_attn_out", [&](const std::string&, Tensor& x) {
            if (throws && ++calls == 3) throw std::runtime_error("a callback's own");
            if (!throws) x.data()[x.elements() - 1] = std::numeric_limits<float>::quiet_NaN();
          });
          ASSERT_TRUE(hook.has_value());
          if (throws) {
            EXPECT_THROW((void)(*failing)->prefill(f, more), std::runtime_error);
          } else {
            EXPECT_FALSE((*failing)->prefill(f, more).has_value());
          }
        }
        EXPECT_EQ((*failing)->length(f), drops ? 0 : before) << program << " after " << before;
        const bool refilled = before == 0 || !drops || (*failing)->prefill(f, first).has_value();
        ASSERT_TRUE(refilled);
      }
      const auto expected = (*straight)->prefill(s, more), found = (*failing)->prefill(f, more);
      ASSERT_TRUE(expected.has_value() && found.has_value()) << program;
      EXPECT_EQ(*found, *expected) << program << " after " << before;
    }
  }
}

TEST(SessionStep, RowsGivenInPlaceOfTokensAreTheirEmbeddings) {
  auto session = session_of();
  const std::vector<int32_t> ids = ids_of(9), other = ids_of(5, 3), blank(9, 0);
  std::vector<float> rows;
  const auto feed = [&](std::span<const int32_t> tokens, const Tensor& x) {
    const SequenceId a = session->begin(), b = session->begin();
    const Session::Feed feeds[] = {{.sequence = a, .tokens = other}, {.sequence = b, .tokens = tokens, .x = x}};
    return values(session->step(feeds));
  };
  std::vector<float> want;
  {
    auto scope = session->hooks().scoped("blocks.0.hook_resid_pre", [&](const std::string&, Tensor& x) {
      rows.assign(x.data() + 5 * x.dim(1), x.data() + x.elements());
    });
    ASSERT_TRUE(scope.has_value());
    want = feed(ids, {});
  }
  const Tensor x = Tensor::from({9, session->shape().d_model}, rows);
  EXPECT_EQ(feed(blank, x), want);
  EXPECT_NE(feed(blank, {}), want);
  EXPECT_THROW(feed(std::span(blank).first(3), x), CheckFailed);
}

}  // namespace session_step_test
}  // namespace fovea::engine
