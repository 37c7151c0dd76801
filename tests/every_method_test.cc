// The laws of attention methods, for every method in the registry, in both numerics, on the tiny model of every family.
// A method that breaks one by design says so in MethodInfo::exceptions.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <filesystem>
#include <numeric>
#include <set>

#include "fovea/attention/method.h"
#include "fovea/base/check.h"
#include "fovea/base/testing/paths.h"
#include "fovea/engine/testing/golden.h"
#include "fovea/models/testing/tiny_model.h"
#include "fovea/probe/testing/made_up_profile.h"

namespace fovea::engine {
namespace every_method_test {

using attention::MethodInfo;
using kernels::Numerics;
using ::testing::ElementsAreArray;
using ::testing::IsEmpty;

const std::set<std::string> kLaws = {"neutral", "causal", "chunks",   "batch",  "alone",
                                     "budget",  "fork",   "gradient", "windows"};

std::vector<std::string> words_of(std::string_view text, char separator) {
  std::vector<std::string> out;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find(separator, begin), text.size());
    out.emplace_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return out;
}

// Without those of this file.
std::vector<std::string> names() {
  std::vector<std::string> all = attention::method_names();
  std::erase_if(all, [](const std::string& name) { return name.starts_with("test-"); });
  return all;
}

TEST(Methods, EveryFileRegistersTheMethodItIsNamedAfter) {
  std::vector<std::string> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(source_dir() + "/fovea/methods")) {
    std::string name = entry.path().stem().string();
    if (entry.path().extension() != ".cc" || name.ends_with("_test")) continue;
    std::replace(name.begin(), name.end(), '_', '-');
    files.push_back(name);
  }
  std::sort(files.begin(), files.end());
  EXPECT_THAT(names(), ElementsAreArray(files));
}

TEST(Methods, EveryOneSaysWhatItIs) {
  for (const std::string& name : names()) {
    const auto method = attention::make_method(name);
    const MethodInfo& info = method->info();
    EXPECT_EQ(info.name, name);
    EXPECT_FALSE(info.title.empty()) << name;
    EXPECT_FALSE(info.summary.empty()) << name;
    EXPECT_NE(info.paper.find("arXiv:"), std::string_view::npos) << name;
    EXPECT_NE(info.stages, 0u) << name;
    EXPECT_FALSE(info.example.empty()) << name << ": without an example the laws say nothing about it";
    for (const std::string& other : words_of(info.excludes, ' '))
      EXPECT_NE(attention::make_method(other), nullptr) << name << " excludes " << other;
    for (std::string entry : words_of(info.exceptions, ';')) {
      entry.erase(0, entry.find_first_not_of(' '));
      const std::string law = entry.substr(0, entry.find_first_of("~:"));
      EXPECT_EQ(kLaws.count(law), 1u) << name << ": no law is called " << law;
      EXPECT_NE(entry.find("sec"), std::string::npos) << name << ": the section that breaks " << law << " is missing";
    }
    for (const attention::KnobInfo& knob : attention::list_knobs(*method))
      EXPECT_FALSE(knob.help.empty()) << name << " " << knob.name;
  }
}

TEST(Methods, AllowedDistanceReadsTheExceptions) {
  MethodInfo info;
  info.exceptions = "chunks~1e-4: rounding (sec. 1); causal: looks ahead (sec. 2)";
  EXPECT_EQ(attention::allowed_distance(info, "neutral"), 0.0);
  EXPECT_EQ(attention::allowed_distance(info, "chunks"), 1e-4);
  EXPECT_TRUE(std::isinf(attention::allowed_distance(info, "causal")));
}

// Every method with its example, as "NAME:KNOBS", and with every further one.
std::vector<std::string> examples() {
  std::vector<std::string> out;
  for (const std::string& name : names()) {
    const auto method = attention::make_method(name);
    out.push_back(name + ":" + std::string(method->info().example));
    for (const std::string& knobs : words_of(method->info().more_examples, ' ')) out.push_back(name + ":" + knobs);
  }
  return out;
}

// Below tests/data. In the first two query heads outnumber KV heads, and their weights are quantised.
// FOVEA_LAW_FAMILIES has the families that are enough where a test takes ten times as long (sanitizers): "gemma3
// gpt-oss"; unset: all.
std::vector<std::string> model_files() {
  std::vector<std::string> out = {"tiny-llama.gguf", "tiny-qwen2.gguf"};
  const char* few = std::getenv("FOVEA_LAW_FAMILIES");
  for (const std::string& name : few ? words_of(few, ' ') : test_folders("families")) out.push_back("families/" + name);
  return out;
}

using Case = std::tuple<std::string, std::string, Numerics>;

class EveryMethod : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    example_ = std::get<0>(GetParam());
    method_ = example_.substr(0, example_.find(':'));
    model_ = load_model(test_data(std::get<1>(GetParam())));
    ASSERT_NE(model_, nullptr);
    const attention::ModelShape& shape = model_->shape();
    profile_ = probe::made_up_profile(shape);
    for (int i = 0; i < 100; ++i) ids_.push_back(static_cast<int32_t>(3 + (i * i + 7 * i) % (shape.vocab_size - 3)));
  }

  const MethodInfo& info() const {
    static std::map<std::string, std::unique_ptr<attention::Method>> made;
    auto& method = made[method_];
    if (!method) method = attention::make_method(method_);
    return method->info();
  }
  // A law that does not hold by design is not run; "~" laws are compared within their distance.
  double distance(const char* law) const { return attention::allowed_distance(info(), law); }

  std::unique_ptr<Session> session(const std::string& attention, int chunk = 512) const {
    SessionOptions options{.numerics = std::get<2>(GetParam())};
    options.chunk = chunk;
    options.attention = attention;
    options.profile = profile_;
    return make_session(model_, options);
  }
  std::string with(std::string_view knobs) const { return method_ + (knobs.empty() ? "" : ":") + std::string(knobs); }
  const std::string& example() const { return example_; }

  static void decode_all(Session& session, SequenceId sequence, Rows& rows) {
    for (const int32_t token : {5, 17, 9, 30}) rows.push_back(decode(session, sequence, token));
  }
  // The whole prompt and a few decoded tokens in a fresh sequence.
  Rows all(Session& session) const {
    const SequenceId sequence = session.begin();
    Rows rows = prefill(session, sequence, ids_);
    decode_all(session, sequence, rows);
    return rows;
  }

  static void expect_same(const Rows& found, const Rows& expected, double distance = 0) {
    ASSERT_EQ(found.size(), expected.size());
    double worst = 0;
    for (size_t t = 0; t < found.size(); ++t) {
      if (found[t] == expected[t]) continue;
      for (size_t i = 0; i < found[t].size(); ++i) {
        const double off = std::abs(static_cast<double>(found[t][i]) - expected[t][i]);
        if (off > worst || std::isnan(off)) worst = off;
      }
      ASSERT_LE(worst, distance) << "logits of token " << t;
    }
  }

  std::string method_, example_;
  std::shared_ptr<const Model> model_;
  std::shared_ptr<const attention::HeadProfile> profile_;
  std::vector<int32_t> ids_;
};

INSTANTIATE_TEST_SUITE_P(Registry, EveryMethod,
                         ::testing::Combine(::testing::ValuesIn(examples()), ::testing::ValuesIn(model_files()),
                                            ::testing::Values(Numerics::kExact, Numerics::kFast)),
                         [](const auto& test) {
                           const std::string& example = std::get<0>(test.param);
                           const std::string method = example.substr(0, example.find(':'));
                           // The first example of a method goes by its name alone.
                           const MethodInfo about = attention::make_method(method)->info();
                           std::string name = example == method + ":" + std::string(about.example) ? method : example;
                           name += "_" + std::filesystem::path(std::get<1>(test.param)).stem().string();
                           name += std::get<2>(test.param) == Numerics::kExact ? "_exact" : "_fast";
                           std::replace_if(
                               name.begin(), name.end(), [](unsigned char c) { return !std::isalnum(c); }, '_');
                           return name;
                         });

#define SKIP_IF_BROKEN_BY_DESIGN(law) \
  if (std::isinf(distance(law))) GTEST_SKIP() << method_ << " breaks this by design: " << info().exceptions

TEST_P(EveryMethod, IsDenseWithNeutralKnobs) {
  SKIP_IF_BROKEN_BY_DESIGN("neutral");
  expect_same(all(*session(with(info().neutral))), all(*session("dense")), distance("neutral"));
}

TEST_P(EveryMethod, ActsWithItsExample) {
  int n_windows = 0;
  for (int layer = 0; layer < model_->shape().n_layers; ++layer)
    n_windows += model_->shape().site(layer).window < static_cast<int>(ids_.size());
  if (n_windows == model_->shape().n_layers) {
    SKIP_IF_BROKEN_BY_DESIGN("windows");
  }
  EXPECT_NE(all(*session(example())), all(*session("dense")));
}

TEST_P(EveryMethod, LaterTokensNeverChangeEarlierOutputs) {
  SKIP_IF_BROKEN_BY_DESIGN("causal");
  std::vector<int32_t> other = ids_;
  constexpr size_t kFirstChanged = 61;
  for (size_t i = kFirstChanged; i < other.size(); ++i) other[i] = (other[i] + 1) % model_->shape().vocab_size;
  auto one = session(example()), two = session(example());
  Rows a = prefill(*one, one->begin(), ids_), b = prefill(*two, two->begin(), other);
  EXPECT_NE(a, b);
  a.resize(kFirstChanged), b.resize(kFirstChanged);
  expect_same(a, b, distance("causal"));
}

TEST_P(EveryMethod, PrefillInChunksEqualsPrefillAtOnce) {
  SKIP_IF_BROKEN_BY_DESIGN("chunks");
  const Rows whole = all(*session(example()));
  for (const int chunk : {1, 7, 64}) expect_same(all(*session(example(), chunk)), whole, distance("chunks"));
}

TEST_P(EveryMethod, ABatchEqualsItsSequencesAlone) {
  SKIP_IF_BROKEN_BY_DESIGN("batch");
  const std::span<const int32_t> ids(ids_);
  auto batched = session(example());
  std::vector<Session::Step> steps;
  Rows alone;
  for (int i = 0; i < 3; ++i) {
    const auto mine = ids.subspan(0, ids.size() - 31 * static_cast<size_t>(i));
    steps.push_back({batched->begin(), 5 + i});
    auto single = session(example());
    const SequenceId s = single->begin();
    expect_same(prefill(*batched, steps.back().sequence, mine), prefill(*single, s, mine), distance("batch"));
    alone.push_back(decode(*single, s, 5 + i));
  }
  const auto logits = batched->decode(steps);
  ASSERT_TRUE(logits.has_value()) << logits.error().message;
  Rows together;
  for (int64_t i = 0; i < 3; ++i)
    together.emplace_back(logits->data() + i * logits->dim(1), logits->data() + (i + 1) * logits->dim(1));
  expect_same(together, alone, distance("batch"));
}

TEST_P(EveryMethod, ADraftEqualsItsTokensDecodedAloneAndCanBeTakenBack) {
  auto drafting = session(example()), straight = session(example());
  const SequenceId a = drafting->begin(), b = straight->begin();
  if (!drafting->can_verify(a)) GTEST_SKIP() << method_ << " cannot take a draft back";
  prefill(*drafting, a, ids_);
  prefill(*straight, b, ids_);
  const std::vector<int32_t> wrong = {9, 30, 41, 17, 6, 8, 25}, draft = {5, 17, 9, 30, 22};
  ASSERT_TRUE(drafting->verify(a, wrong).has_value());
  drafting->truncate(a, drafting->length(a) - static_cast<int32_t>(wrong.size()));
  const auto logits = drafting->verify(a, draft);
  ASSERT_TRUE(logits.has_value()) << logits.error().message;
  Rows together, alone;
  for (size_t i = 0; i < draft.size(); ++i) {
    const auto row =
        logits->values().subspan(i * static_cast<size_t>(logits->dim(1)), static_cast<size_t>(logits->dim(1)));
    together.emplace_back(row.begin(), row.end());
    alone.push_back(decode(*straight, b, draft[i]));
  }
  expect_same(together, alone, 0);
}

TEST_P(EveryMethod, AFailedPassLeavesTheSequenceAsItWasOrEmpty) {
  auto failing = session(example()), straight = session(example());
  const SequenceId a = failing->begin(), fresh = straight->begin();
  const std::span<const int32_t> ids(ids_);
  prefill(*failing, a, ids.first(60));
  prefill(*straight, fresh, ids.first(60));
  {
    auto hook = failing->hooks().scoped("ln_final.hook_normalized",
                                        [](const std::string&, Tensor&) { throw std::runtime_error("on purpose"); });
    ASSERT_TRUE(hook.has_value());
    EXPECT_THROW((void)failing->prefill(a, ids.subspan(60)), std::runtime_error);
  }
  if (failing->length(a) == 0) prefill(*failing, a, ids.first(60));  // it had dropped keys
  ASSERT_EQ(failing->length(a), 60);
  Rows found = prefill(*failing, a, ids.subspan(60)), expected = prefill(*straight, fresh, ids.subspan(60));
  decode_all(*failing, a, found);
  decode_all(*straight, fresh, expected);
  expect_same(found, expected);
}

// Cuts every part in two by its pages.
class Split final : public attention::Method {
 public:
  static constexpr MethodInfo kInfo{
      .name = "test-split", .title = "Split", .paper = "none", .stages = attention::kChoose, .summary = "for tests"};
  const MethodInfo& info() const override { return kInfo; }
  bool chooses(int) const override { return true; }
  void choose(const attention::Call&, const attention::Queries&, attention::KeyPlan& plan) const override {
    for (int kv = 0; kv < plan.n_kv_heads(); ++kv) {
      for (int t = 0; t < plan.n_tiles(); ++t) {
        attention::KeyPlan::Tile& tile = plan.tile(kv, t);
        const size_t n = tile.parts.size();
        for (size_t p = 0; p < n; ++p) {
          tile.parts.push_back(tile.parts[p]);
          std::erase_if(tile.parts[p].pages, [](const auto& page) { return page.index % 2 == 1; });
          std::erase_if(tile.parts.back().pages, [](const auto& page) { return page.index % 2 == 0; });
        }
      }
    }
  }
};
FOVEA_REGISTER_METHOD(Split);

TEST_P(EveryMethod, ItsKeysInTwoPartsGiveWhatTheyGiveInOne) {
  // Joining rounds, and in fast that moves some activation by one int8 code.
  const double distance = std::get<2>(GetParam()) == Numerics::kExact ? 2e-4 : 5e-1;
  expect_same(all(*session(example() + ",test-split")), all(*session(example())), distance);
}

TEST_P(EveryMethod, ASecondSequenceIsUntouchedByTheFirst) {
  SKIP_IF_BROKEN_BY_DESIGN("alone");
  auto busy = session(example());
  const SequenceId first = busy->begin(), second = busy->begin();
  const std::span<const int32_t> ids(ids_);
  prefill(*busy, first, ids.subspan(3));
  Rows rows = prefill(*busy, second, ids);
  for (const int32_t token : {5, 17, 9, 30}) {
    decode(*busy, first, 40);
    rows.push_back(decode(*busy, second, token));
  }
  busy->remove(first);
  expect_same(rows, all(*session(example())), distance("alone"));
}

TEST_P(EveryMethod, ThePromisedKeyBudgetHolds) {
  SKIP_IF_BROKEN_BY_DESIGN("budget");
  auto live = session(example(), 16);
  const SequenceId s = live->begin();
  const attention::Method& method = *live->pipeline().methods().at(0);
  const auto check = [&](int64_t fed) {
    for (int layer = 0; layer < live->shape().n_layers; ++layer) {
      for (int kv = 0; kv < live->shape().n_kv_heads; ++kv) {
        EXPECT_LE(live->cache().n_keys(s, layer, kv), std::min(fed, method.max_keys(layer, kv))) << layer << " " << kv;
      }
    }
  };
  for (size_t at = 0; at < ids_.size(); at += 20) {
    prefill(*live, s, std::span(ids_).subspan(at, 20));
    check(static_cast<int64_t>(at) + 20);
  }
  for (int i = 0; i < 40; ++i) {
    decode(*live, s, 5);
    check(static_cast<int64_t>(ids_.size()) + i + 1);
  }
}

TEST_P(EveryMethod, AForkEqualsTheSequenceItCameFromAndLeavesItAlone) {
  SKIP_IF_BROKEN_BY_DESIGN("fork");
  const std::span<const int32_t> ids(ids_);
  auto forking = session(example()), straight = session(example());
  const SequenceId a = forking->begin(), fresh = straight->begin();
  prefill(*forking, a, ids.subspan(0, 60));
  prefill(*straight, fresh, ids.subspan(0, 60));
  Rows expected = prefill(*straight, fresh, ids.subspan(60));
  decode_all(*straight, fresh, expected);
  const SequenceId b = forking->fork(a);
  Rows forked = prefill(*forking, b, ids.subspan(60));
  decode_all(*forking, b, forked);
  expect_same(forked, expected, distance("fork"));
  Rows original = prefill(*forking, a, ids.subspan(60));  // after the fork wrote
  decode_all(*forking, a, original);
  expect_same(original, expected, distance("fork"));
}

// The law is that of chunks: the tokens behind the cut are fed apart from those before it.
TEST_P(EveryMethod, WhereItCanGoBackToAPrefixItHoldsWhatFeedingThePrefixLeaves) {
  SKIP_IF_BROKEN_BY_DESIGN("chunks");
  const std::span<const int32_t> ids(ids_);
  for (const std::string& spec : {example(), with(info().neutral)}) {
    for (const size_t cut : {size_t{0}, size_t{3}, size_t{61}, ids_.size()}) {
      auto went_back = session(spec), straight = session(spec);
      const SequenceId s = went_back->begin(), fresh = straight->begin();
      prefill(*went_back, s, ids);
      const bool possible = went_back->can_truncate(s, static_cast<int32_t>(cut));
      EXPECT_TRUE(possible || (cut > 0 && cut < ids_.size()));
      if (!possible) {
        EXPECT_THROW(went_back->truncate(s, static_cast<int32_t>(cut)), CheckFailed);
        continue;
      }
      went_back->truncate(s, static_cast<int32_t>(cut));
      EXPECT_EQ(went_back->length(s), static_cast<int32_t>(cut));
      if (cut > 0) prefill(*straight, fresh, ids.first(cut));
      Rows found, expected;
      if (cut < ids_.size()) {
        found = prefill(*went_back, s, ids.subspan(cut));
        expected = prefill(*straight, fresh, ids.subspan(cut));
      }
      decode_all(*went_back, s, found);
      decode_all(*straight, fresh, expected);
      expect_same(found, expected, distance("chunks"));
    }
  }
}

TEST_P(EveryMethod, TheTapeHasItsGradient) {
  SKIP_IF_BROKEN_BY_DESIGN("gradient");
  if (std::get<2>(GetParam()) == Numerics::kFast) GTEST_SKIP() << "the tape is exact";
  models::TinyModel model(std::filesystem::path(std::get<1>(GetParam())).stem().string(), /*all_experts=*/true);
  attention::ModelShape shape = model.shape();
  shape.profile = profile_.get();
  auto pipeline = attention::Pipeline::parse(example(), shape);
  ASSERT_TRUE(pipeline.has_value()) << pipeline.error().message;
  model.expect_gradients_meet_finite_differences(24, &*pipeline);
}

TEST_P(EveryMethod, ActsOnlyInTheStagesItNames) {
  auto live = session(example());
  const attention::Method& method = *live->pipeline().methods().at(0);
  uint32_t acts = 0;
  for (int layer = 0; layer < live->shape().n_layers; ++layer) {
    if (method.edits_inputs(layer)) acts |= attention::kInputs;
    if (method.chooses(layer)) acts |= attention::kChoose;
    if (method.joins(layer)) acts |= attention::kJoin;
    if (method.gates(layer, false) || method.gates(layer, true)) acts |= attention::kGate;
    for (int kv = 0; kv < live->shape().n_kv_heads; ++kv) {
      if (method.max_keys(layer, kv) < INT64_MAX) acts |= attention::kKeep;
    }
    for (int head = 0; head < live->shape().n_heads; ++head) {
      const attention::KeyRule rule = method.rule(layer, head);
      if (rule.n_sink != 0 || rule.window != INT32_MAX) acts |= attention::kChoose;
      for (const bool decoding : {false, true}) {
        if (method.edits_rows(layer, head, decoding) && !(info().stages & (attention::kScore | attention::kReweight)))
          acts |= attention::kScore;
      }
    }
  }
  EXPECT_THAT(attention::stage_names(acts & ~info().stages), IsEmpty());
}

}  // namespace every_method_test
}  // namespace fovea::engine
