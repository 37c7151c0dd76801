// What must hold of every family, on the tiny model that transformers wrote of each (tests/data/families, made by
// tools/make_family_goldens.py): its logits and greedy text, also with other fields in config.json; chunks, batches,
// drafts and hooks that change nothing; gradients. A family whose folder is missing fails here.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>  // mkdtemp

#include <algorithm>
#include <filesystem>
#include <set>

#include "fovea/engine/prefix_store.h"
#include "fovea/engine/testing/golden.h"
#include "fovea/models/family.h"
#include "fovea/models/testing/tiny_model.h"

namespace fovea::engine {
namespace every_family_test {

namespace fs = std::filesystem;

class EveryFamily : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    golden_ = read_json_file(folder() + "/golden.json");
    ids_ = golden_["ids"].get<std::vector<int32_t>>();
    model_ = load_model(folder());
  }
  std::string folder() const { return test_data("families/") + GetParam(); }
  static std::unique_ptr<Session> session(std::shared_ptr<const Model> model, int chunk = 512, int n_ctx = 0) {
    SessionOptions options{.numerics = kernels::Numerics::kExact, .n_ctx = n_ctx};
    options.chunk = chunk;
    return make_session(std::move(model), options);
  }
  std::unique_ptr<Session> session(int chunk = 512) const { return session(model_, chunk); }

  static int32_t best(const std::vector<float>& logits) {
    return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  }

  // Logits of the golden rows, and the greedy continuation, which goes on in the cache.
  void expect_answers(Session& session, const nlohmann::json& golden) const {
    const SequenceId sequence = session.begin();
    const Rows found = prefill(session, sequence, ids_);
    expect_golden_rows(found, golden["rows"], golden["logits"]);
    std::vector<int32_t> greedy;
    for (int32_t next = best(found.back()); greedy.size() < golden["greedy"].size();) {
      greedy.push_back(next);
      next = best(decode(session, sequence, next));
    }
    EXPECT_EQ(greedy, golden["greedy"].get<std::vector<int32_t>>());
  }

  nlohmann::json golden_;
  std::vector<int32_t> ids_;
  std::shared_ptr<const Model> model_;
};

INSTANTIATE_TEST_SUITE_P(Folders, EveryFamily, ::testing::ValuesIn(test_folders("families")),
                         [](const auto& test) { return test_name(test.param); });

TEST(Families, EveryOneHasATinyModelAndSaysWhatItRuns) {
  std::set<std::string> with_model;
  for (const std::string& name : test_folders("families")) {
    const auto source = formats::open_model(test_data("families/") + name);
    ASSERT_TRUE(source.has_value()) << source.error().message;
    with_model.insert((*source)->get_string("general.architecture").value());
  }
  for (const std::string& name : test_folders("encoders")) with_model.insert(name);  // every_encoder_test.cc
  for (const auto& [name, info] : models::family_registry()) {
    EXPECT_EQ(with_model.count(name), 1u) << name << ": tests/data/families has no model of it";
    EXPECT_FALSE(info.traits.models.empty()) << name;
  }
}

TEST_P(EveryFamily, AnswersAsTransformersDoes) { expect_answers(*session(), golden_); }

// Other fields in config.json with the same weights: scalings, windows and so on.
TEST_P(EveryFamily, AnswersAsTransformersDoesWithOtherFields) {
  if (!golden_.contains("variants")) GTEST_SKIP() << "it has no variants";
  for (const auto& [name, variant] : golden_["variants"].items()) {
    SCOPED_TRACE(name);
    with_fields(folder(), variant["config"], [&, &variant = variant](const auto& model) {
      // The angles of LongRoPE's long contexts are for sessions that ask for them.
      const bool is_long = model->config().short_context < static_cast<int>(ids_.size());
      expect_answers(*session(model, 512, is_long ? model->shape().n_ctx : 0), variant);
    });
  }
}

TEST_P(EveryFamily, ChunksAndDecodingChangeNoBit) {
  const auto whole_session = session();
  const Rows whole = prefill(*whole_session, whole_session->begin(), ids_);
  for (const int chunk : {1, 7, 64}) {
    const auto chunked = session(chunk);
    EXPECT_EQ(prefill(*chunked, chunked->begin(), ids_), whole) << chunk;
  }
  const auto one = session();
  const SequenceId sequence = one->begin();
  for (size_t i = 0; i < ids_.size(); ++i) ASSERT_EQ(decode(*one, sequence, ids_[i]), whole[i]) << i;
}

TEST_P(EveryFamily, ABatchGivesWhatItsSequencesGiveAlone) {
  const std::span<const int32_t> ids(ids_);
  const auto together = session(), alone = session();
  std::vector<Session::Step> steps;
  Rows want;
  for (int i = 0; i < 3; ++i) {
    const auto mine = ids.first(ids.size() - 41 * static_cast<size_t>(i));
    steps.push_back({together->begin(), 5 + i});
    const SequenceId single = alone->begin();
    EXPECT_EQ(prefill(*together, steps.back().sequence, mine), prefill(*alone, single, mine));
    want.push_back(decode(*alone, single, 5 + i));
    alone->remove(single);
  }
  const auto logits = together->decode(steps);
  ASSERT_TRUE(logits.has_value()) << logits.error().message;
  for (int64_t i = 0; i < 3; ++i) {
    const float* row = logits->data() + i * logits->dim(1);
    EXPECT_EQ(std::vector<float>(row, row + logits->dim(1)), want[static_cast<size_t>(i)]) << i;
  }
}

TEST_P(EveryFamily, DraftsAreTakenBackAndForksGoTheirOwnWay) {
  const auto drafting = session(), straight = session();
  const SequenceId a = drafting->begin(), b = straight->begin();
  ASSERT_TRUE(drafting->can_verify(a));
  prefill(*drafting, a, ids_);
  prefill(*straight, b, ids_);
  const std::vector<int32_t> wrong = {9, 30, 41, 17, 6, 8, 25}, right = {5, 17, 9};
  const SequenceId fork = drafting->fork(a);
  ASSERT_TRUE(drafting->verify(a, wrong).has_value());
  const int32_t before = drafting->length(a) - static_cast<int32_t>(wrong.size());
  ASSERT_TRUE(drafting->can_truncate(a, before));
  drafting->truncate(a, before);
  for (const int32_t token : right) {
    const std::vector<float> want = decode(*straight, b, token);
    EXPECT_EQ(decode(*drafting, a, token), want);
    EXPECT_EQ(decode(*drafting, fork, token), want);
  }
}

TEST_P(EveryFamily, AStoredPrefixGivesTheBitsOfReadingItAgain) {
  std::string dir = ::testing::TempDir() + "/family-prefix-XXXXXX";
  ASSERT_NE(mkdtemp(dir.data()), nullptr);
  const std::span<const int32_t> ids(ids_);
  PrefixStore store({.dir = dir + "/cache"});
  const auto first = session(), second = session();
  const SequenceId a = first->begin();
  prefill(*first, a, ids.first(140));
  store.remember(*first, a, ids.first(140));
  store.flush(*first);
  const auto found = store.find(*second, ids, 140);
  ASSERT_TRUE(found.has_value());
  ASSERT_EQ(found->n_tokens, 140);
  EXPECT_EQ(prefill(*second, found->sequence, ids.subspan(140)), prefill(*first, a, ids.subspan(140)));
  // Half of it serves where every layer still has all keys that the half needs; else it is read again.
  std::vector<int32_t> half(ids.begin(), ids.begin() + 100);
  for (size_t i = 70; i < half.size(); ++i) half[i] = half[i] == 5 ? 6 : 5;
  const SequenceId fresh = first->begin();
  const Rows want = prefill(*first, fresh, half);
  const auto shorter = store.find(*second, half, 100);
  const bool windows = second->shape().site(0).window != INT_MAX || second->shape().site(1).window != INT_MAX;
  EXPECT_TRUE(shorter.has_value() || windows);
  if (shorter) {
    const Rows rest = prefill(*second, shorter->sequence, std::span<const int32_t>(half).subspan(shorter->n_tokens));
    EXPECT_EQ(rest.back(), want.back());
  }
  fs::remove_all(dir);
}

TEST_P(EveryFamily, EveryHookFiresOnceInItsOrderWithItsShapeAndChangesNothing) {
  const auto plain = session(), watched = session();
  const std::span<const int32_t> ids = std::span<const int32_t>(ids_).first(20);
  const Rows want = prefill(*plain, plain->begin(), ids);
  const attention::HookMap& map = watched->hooks().model();
  std::vector<std::string> fired;
  const auto scope = watched->hooks().scoped("*", [&](const std::string& name, Tensor& x) {
    const attention::HookMap::Hook& hook = map.hooks()[fired.size() % map.hooks().size()];
    std::vector<int64_t> shape;
    for (int i = 0; i < x.shape().rank(); ++i) shape.push_back(x.dim(i));
    EXPECT_EQ(shape, map.shape(hook.point, 20, 20)) << name;
    fired.push_back(name);
  });
  ASSERT_TRUE(scope.has_value());
  EXPECT_EQ(prefill(*watched, watched->begin(), ids), want);
  EXPECT_EQ(fired, map.names());
}

TEST_P(EveryFamily, TheTapeSeesTheLogitsOfTheCache) {
  models::TinyModel model(GetParam());
  tensor::Exec exec{.arena = nullptr, .numerics = tensor::Numerics::kExact};
  tensor::ExecScope scope(exec);
  attention::Hooks hooks(model.family().hooks());
  const Tensor cached = model.logits(model.ids()), alone = model.logits(model.ids(), nullptr, hooks);
  for (int64_t i = 0; i < cached.elements(); ++i)
    ASSERT_NEAR(alone.data()[i], cached.data()[i], 1e-4) << i;  // sums in another order
}

TEST_P(EveryFamily, EveryWeightHasTheGradientOfTheLoss) {
  models::TinyModel(GetParam(), /*all_experts=*/true).expect_gradients_meet_finite_differences(20);
}

}  // namespace every_family_test
}  // namespace fovea::engine
