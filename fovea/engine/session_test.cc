#include "fovea/engine/session.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "fovea/base/testing/paths.h"
#include "fovea/base/threads.h"
#include "fovea/kernels/vector.h"

namespace fovea::engine {
namespace session_test {

using ::testing::HasSubstr;
using Json = nlohmann::json;
using kernels::Numerics;

std::string tiny(const std::string& name) { return source_dir() + "/tests/data/" + name + ".gguf"; }

std::string stored(const std::string& name) {
  const char *models = std::getenv("FOVEA_MODELS"), *home = std::getenv("HOME");
  return (models ? std::string(models) : std::string(home ? home : "") + "/.local/share/fovea/models") + "/" + name +
         ".gguf";
}

Json golden(const std::string& name) {
  std::ifstream in(source_dir() + "/tests/golden/logits/" + name + ".json");
  return Json::parse(in);
}

std::unique_ptr<Session> session_of(const std::string& path, const SessionOptions& options) {
  ModelOptions model_options;
  if (options.numerics == Numerics::kExact) model_options.repack_bytes = 0;
  auto model = Model::load(path, model_options);
  EXPECT_TRUE(model.has_value()) << model.error().message;
  auto session = Session::create(*model, options);
  EXPECT_TRUE(session.has_value()) << session.error().message;
  return std::move(session).value();
}

SessionOptions exact() { return {.numerics = Numerics::kExact}; }

// All logits of a prompt, [n_tokens][vocab_size].
std::vector<std::vector<float>> all_logits(Session& session, SequenceId sequence, const std::vector<int32_t>& ids) {
  std::vector<std::vector<float>> rows;
  PrefillOptions options;
  options.on_logits = [&](int64_t, const Tensor& logits) -> Status {
    for (int64_t i = 0; i < logits.dim(0); ++i) {
      rows.emplace_back(logits.data() + i * logits.dim(1), logits.data() + (i + 1) * logits.dim(1));
    }
    return {};
  };
  const auto done = session.prefill(sequence, ids, options);
  EXPECT_TRUE(done.has_value()) << done.error().message;
  return rows;
}

std::vector<int32_t> greedy(Session& session, SequenceId sequence, std::vector<float> logits, int n) {
  std::vector<int32_t> out;
  for (int i = 0; i < n; ++i) {
    out.push_back(static_cast<int32_t>(kernels::argmax(logits.data(), static_cast<int64_t>(logits.size()))));
    const Session::Step step{sequence, out.back()};
    auto next = session.decode({&step, 1});
    EXPECT_TRUE(next.has_value()) << next.error().message;
    logits.assign(next->values().begin(), next->values().end());
  }
  return out;
}

class TinyModel : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Families, TinyModel, ::testing::Values("tiny-llama", "tiny-qwen2"));

TEST_P(TinyModel, ExactLogitsAndGreedyTokensEqualTransformers) {
  const Json want = golden(GetParam());
  auto session = session_of(tiny(GetParam()), exact());
  const auto ids = want["ids"].get<std::vector<int32_t>>();
  const SequenceId s = session->begin();
  const auto rows = all_logits(*session, s, ids);
  ASSERT_EQ(rows.size(), ids.size());
  double worst = 0;
  for (size_t t = 0; t < rows.size(); ++t) {
    for (size_t v = 0; v < rows[t].size(); ++v)
      worst = std::max(worst, std::abs(rows[t][v] - want["logits"][t][v].get<double>()));
  }
  EXPECT_LT(worst, 1e-4);  // the oracle itself moves by float64_diff, some 6e-6, between float32 and float64
  EXPECT_EQ(greedy(*session, s, rows.back(), 32), want["greedy"].get<std::vector<int32_t>>());
}

TEST_P(TinyModel, FastIsNearExact) {
  const auto ids = golden(GetParam())["ids"].get<std::vector<int32_t>>();
  auto a = session_of(tiny(GetParam()), exact());
  auto b = session_of(tiny(GetParam()), {});
  const auto x = all_logits(*a, a->begin(), ids), y = all_logits(*b, b->begin(), ids);
  double squares = 0, difference = 0;
  for (size_t t = 0; t < x.size(); ++t) {
    for (size_t v = 0; v < x[t].size(); ++v)
      squares += x[t][v] * x[t][v], difference += (x[t][v] - y[t][v]) * (x[t][v] - y[t][v]);
  }
  EXPECT_GT(difference, 0.0);
  EXPECT_LT(std::sqrt(difference / squares), 0.03);  // int8 activations: about 1 % a product
}

// One prompt, many ways to run it.
class SameBits : public ::testing::TestWithParam<std::tuple<const char*, Numerics, std::optional<kernels::KvType>>> {
 protected:
  std::unique_ptr<Session> session(int chunk = 512, const std::string& attention = "dense") {
    SessionOptions options{.numerics = std::get<1>(GetParam()), .cache_type = std::get<2>(GetParam())};
    options.chunk = chunk;
    options.attention = attention;
    return session_of(tiny(std::get<0>(GetParam())), options);
  }
  std::vector<int32_t> ids = golden(std::get<0>(GetParam()))["ids"].get<std::vector<int32_t>>();
};
INSTANTIATE_TEST_SUITE_P(ModelsAndNumerics, SameBits,
                         ::testing::Combine(::testing::Values("tiny-llama", "tiny-qwen2"),
                                            ::testing::Values(Numerics::kExact, Numerics::kFast),
                                            ::testing::Values(std::nullopt, kernels::KvType::kQ8_0)));

TEST(CacheType, IsChosenApartFromTheNumerics) {
  using kernels::KvType;
  const auto type_of = [](const SessionOptions& options) {
    return session_of(tiny("tiny-llama"), options)->cache().shape().k_type;
  };
  EXPECT_EQ(type_of({}), KvType::kI16);
  EXPECT_EQ(type_of(exact()), KvType::kF32);
  EXPECT_EQ(type_of({.cache_type = KvType::kQ8_0}), KvType::kQ8_0);
  EXPECT_EQ(type_of({.numerics = Numerics::kExact, .cache_type = KvType::kQ8_0}), KvType::kQ8_0);
}

TEST_P(SameBits, OneChunkOrManyOrTokenByToken) {
  auto whole = session();
  const auto expected = all_logits(*whole, whole->begin(), ids);
  for (const int chunk : {1, 7, 32}) {
    auto parts = session(chunk);
    EXPECT_EQ(all_logits(*parts, parts->begin(), ids), expected) << chunk;
  }
}

TEST_P(SameBits, TwoRunsAndAnyNumberOfThreads) {
  auto one = session();
  const auto expected = all_logits(*one, one->begin(), ids);
  for (const int n : {1, 2, 3, 8}) {
    set_threads(n);
    auto other = session();
    EXPECT_EQ(all_logits(*other, other->begin(), ids), expected) << n;
  }
  set_threads(0);
}

TEST_P(SameBits, PrefillDecodeAndABatchWithOneToEightThreads) {
  const auto everything = [&] {
    auto s = session();
    std::vector<float> bits;
    std::vector<Session::Step> steps;
    for (int32_t i = 0; i < 5; ++i) {  // prompts of different lengths
      steps.push_back({s->begin(), i});
      const auto logits =
          s->prefill(steps.back().sequence, std::span(ids).first(ids.size() - 7 * static_cast<size_t>(i)));
      bits.insert(bits.end(), logits->begin(), logits->end());
    }
    for (const size_t n : {size_t{1}, steps.size(), steps.size()}) {
      const auto logits = s->decode(std::span(steps).first(n));
      bits.insert(bits.end(), logits->values().begin(), logits->values().end());
    }
    return bits;
  };
  set_threads(1);
  const auto expected = everything();
  for (int n = 2; n <= 8; ++n) {
    set_threads(n);
    EXPECT_EQ(everything(), expected) << n;
  }
  set_threads(0);
}

TEST_P(SameBits, AloneOrBesideOthers) {
  auto alone = session();
  const SequenceId s = alone->begin();
  const auto prompt = alone->prefill(s, ids);
  const Session::Step step{s, 5};
  const auto expected = alone->decode({&step, 1});

  auto batched = session();
  std::vector<Session::Step> steps;
  for (int i = 0; i < 3; ++i) {
    steps.push_back({batched->begin(), 5 + i});
    const auto mine =
        batched->prefill(steps.back().sequence, std::span(ids).subspan(0, ids.size() - static_cast<size_t>(i)));
    if (i == 0) {
      EXPECT_EQ(*mine, *prompt);
    }
  }
  const auto all = batched->decode(steps);
  ASSERT_TRUE(all.has_value());
  EXPECT_TRUE(std::equal(expected->values().begin(), expected->values().end(), all->values().begin()));
}

TEST_P(SameBits, AForkOrAFreshPrefill) {
  auto session_ = session();
  const SequenceId a = session_->begin();
  ASSERT_TRUE(session_->prefill(a, std::span(ids).subspan(0, 20)).has_value());
  const SequenceId b = session_->fork(a);
  const auto forked = session_->prefill(b, std::span(ids).subspan(20));
  const auto straight = session_->prefill(a, std::span(ids).subspan(20));
  const auto fresh = session_->prefill(session_->begin(), ids);
  EXPECT_EQ(*forked, *fresh);
  EXPECT_EQ(*straight, *fresh);
}

TEST_P(SameBits, BackToAPrefix) {
  auto session_ = session();
  const SequenceId a = session_->begin();
  const auto expected = session_->prefill(a, ids);
  session_->truncate(a, 11);
  EXPECT_EQ(*session_->prefill(a, std::span(ids).subspan(11)), *expected);
}

TEST_P(SameBits, AnIdlePipelineOrDense) {
  auto dense = session(), idle = session(512, "scale,streaming-llm:window=1000000");
  EXPECT_EQ(all_logits(*idle, idle->begin(), ids), all_logits(*dense, dense->begin(), ids));
}

TEST_P(SameBits, LookingAtEveryHookChangesNothing) {
  auto plain = session(), watched = session();
  size_t fired = 0;
  ASSERT_TRUE(watched->hooks().attach("*", [&](const std::string&, Tensor&) { ++fired; }).has_value());
  EXPECT_EQ(all_logits(*watched, watched->begin(), ids), all_logits(*plain, plain->begin(), ids));
  EXPECT_TRUE(watched->hooks().check_fired().has_value());
  EXPECT_EQ(fired, watched->hooks().model().hooks().size());
}

TEST(Session, HooksAreTheBlocksOfTransformers) {
  for (const char* name : {"tiny-llama", "tiny-qwen2"}) {
    const Json want = golden(name);
    auto session = session_of(tiny(name), exact());
    std::map<std::string, std::vector<float>> seen;
    ASSERT_TRUE(
        session->hooks()
            .attach("*.hook_resid_post", [&](const std::string& hook,
                                             Tensor& x) { seen[hook].assign(x.values().begin(), x.values().end()); })
            .has_value());
    ASSERT_TRUE(session->prefill(session->begin(), want["ids"].get<std::vector<int32_t>>()).has_value());
    ASSERT_EQ(seen.size(), want["hooks"].size());
    for (const auto& [hook, values] : want["hooks"].items()) {
      size_t i = 0;
      for (const auto& row : values) {
        for (const auto& value : row) ASSERT_NEAR(seen[hook][i++], value.get<double>(), 1e-4) << hook;
      }
    }
  }
}

TEST(Session, ReplacingAValueChangesTheAnswer) {
  auto session = session_of(tiny("tiny-llama"), exact());
  const std::vector<int32_t> ids = {3, 4, 5};
  const auto before = session->prefill(session->begin(), ids);
  ASSERT_TRUE(
      session->hooks()
          .attach("blocks.0.attn.hook_pattern", [](const std::string&, Tensor& p) { p = Tensor::zeros(p.shape()); })
          .has_value());
  const auto after = session->prefill(session->begin(), ids);
  EXPECT_NE(*before, *after);
}

TEST(Session, RefusesWhatDoesNotFitWithBothNumbers) {
  auto session = session_of(tiny("tiny-llama"), {.n_ctx = 8});
  const auto result = session->prefill(session->begin(), std::vector<int32_t>(9, 1));
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().code, ErrorCode::kLimit);
  EXPECT_THAT(result.error().message, testing::AllOf(HasSubstr("9"), HasSubstr("8")));
}

TEST(Session, T5_IdsOutsideTheVocabularyAreNamedWithTheirIndex) {
  auto session = session_of(tiny("tiny-llama"), {});
  for (const int32_t bad : {-1, session->shape().vocab_size, INT32_MAX}) {
    const auto result = session->prefill(session->begin(), std::vector<int32_t>{1, 2, bad});
    ASSERT_FALSE(result.has_value());
    EXPECT_THAT(result.error().message, testing::AllOf(HasSubstr("token 2"), HasSubstr(std::to_string(bad))));
  }
}

// Where each call of the first layer begins, and how long the prompt is for it.
std::vector<std::pair<int32_t, int32_t>> prompts_seen;
class SeesPrompts final : public attention::Method {
 public:
  static constexpr attention::MethodInfo kInfo{.name = "test-sees-prompts",
                                               .title = "Sees prompts",
                                               .paper = "none",
                                               .stages = attention::kGate,
                                               .summary = "for tests"};
  const attention::MethodInfo& info() const override { return kInfo; }
  bool gates(int layer, bool) const override { return layer == 0; }
  void gate(const attention::Call& call, tensor::Tensor&) const override {
    prompts_seen.emplace_back(call.q_pos[0], call.n_prompt);
  }
};
FOVEA_REGISTER_METHOD(SeesPrompts);

TEST(Session, EveryChunkKnowsTheWholePromptAndGeneratedTokensTheLastOne) {
  using ::testing::ElementsAre;
  using ::testing::Pair;
  const auto model = Model::load(source_dir() + "/tests/data/tiny-llama.gguf").value();
  const auto session = Session::create(model, {.chunk = 4, .attention = "test-sees-prompts"}).value();
  prompts_seen.clear();
  const SequenceId s = session->begin();
  const std::vector<int32_t> ids(10, 5);
  ASSERT_TRUE(session->prefill(s, ids).has_value());
  const Session::Step step{s, 7};
  ASSERT_TRUE(session->decode({&step, 1}).has_value());
  EXPECT_THAT(prompts_seen, ElementsAre(Pair(0, 10), Pair(4, 10), Pair(8, 10), Pair(10, 10)));
  prompts_seen.clear();
  const SequenceId fork = session->fork(s);
  const Session::Step next{fork, 7};
  ASSERT_TRUE(session->decode({&next, 1}).has_value());
  ASSERT_TRUE(session->prefill(s, std::span(ids).first(3)).has_value());  // of a conversation: with what was before
  EXPECT_THAT(prompts_seen, ElementsAre(Pair(11, 10), Pair(11, 14)));
}

TEST(Session, IsCancelledBetweenChunks) {
  auto session = session_of(tiny("tiny-llama"), {.chunk = 4});
  std::atomic<bool> cancel{false};
  PrefillOptions options;
  options.cancel = &cancel;
  options.progress = [&](int64_t done, int64_t) { cancel = done >= 8; };
  const SequenceId s = session->begin();
  const auto result = session->prefill(s, std::vector<int32_t>(30, 1), options);
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().code, ErrorCode::kCancelled);
  EXPECT_EQ(session->length(s), 8);
}

// The real models' goldens: sampled logits at some positions of prompts of 1 to 1,500 tokens.
class RealModel : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Models, RealModel, ::testing::Values("smollm2-135m", "qwen2.5-coder-0.5b"));

TEST_P(RealModel, ExactLogitsAndGreedyTokensEqualTransformers) {
  if (!std::filesystem::exists(stored(GetParam())))
    GTEST_SKIP() << "no " << GetParam() << " in the store; fovea pull fetches it";
  const bool all = std::getenv("FOVEA_NIGHTLY") != nullptr;  // else the short prompts only
  const Json want = golden(GetParam());
  auto session = session_of(stored(GetParam()), exact());
  for (const Json& prompt : want["prompts"]) {
    const auto ids = prompt["ids"].get<std::vector<int32_t>>();
    if (!all && ids.size() > 40) continue;
    const SequenceId s = session->begin();
    std::map<int64_t, std::vector<float>> rows;
    PrefillOptions options;
    options.on_logits = [&](int64_t first, const Tensor& logits) -> Status {
      for (const Json& at : prompt["positions"]) {
        const int64_t i = at["position"].get<int64_t>() - first;
        if (i >= 0 && i < logits.dim(0))
          rows[i + first].assign(logits.data() + i * logits.dim(1), logits.data() + (i + 1) * logits.dim(1));
      }
      return {};
    };
    const auto last = session->prefill(s, ids, options);
    ASSERT_TRUE(last.has_value()) << last.error().message;
    double worst = 0;
    for (const Json& at : prompt["positions"]) {
      const std::vector<float>& row = rows[at["position"].get<int64_t>()];
      for (size_t i = 0; i < want["vocab_indices"].size(); ++i) {
        worst = std::max(worst, std::abs(row[want["vocab_indices"][i].get<size_t>()] - at["logits"][i].get<double>()));
      }
      const double lse = kernels::log_sum_exp(row.data(), static_cast<int64_t>(row.size()));
      EXPECT_NEAR(lse, at["logsumexp"].get<double>(), 5e-3);
    }
    EXPECT_LT(worst, 5e-3) << prompt["name"];
    RecordProperty("worst_" + prompt["name"].get<std::string>(), std::to_string(worst));
    EXPECT_EQ(greedy(*session, s, *last, 32), prompt["greedy"].get<std::vector<int32_t>>()) << prompt["name"];
    session->remove(s);
  }
}

}  // namespace session_test
}  // namespace fovea::engine
