// Every two methods that the registry lets run together, in both orders, on a tiny model: dense where both are neutral,
// one alone where the other is, and with both at their examples the same in chunks and in batches. The others are
// refused by name. Laws that one of two breaks by design (MethodInfo::exceptions) are not asked of them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "fovea/attention/method.h"
#include "fovea/base/testing/paths.h"
#include "fovea/engine/testing/golden.h"
#include "fovea/models/testing/tiny_model.h"
#include "fovea/probe/testing/made_up_profile.h"

namespace fovea::engine {
namespace every_pair_test {

using ::testing::AllOf;
using ::testing::HasSubstr;

using Pair = std::pair<std::string, std::string>;

std::vector<Pair> pairs(bool that_compose) {
  std::vector<Pair> out;
  for (const std::string& a : attention::method_names()) {
    for (const std::string& b : attention::method_names()) {
      if (a == b || a.starts_with("test-") || b.starts_with("test-")) continue;
      const bool compose = attention::can_compose(attention::make_method(a)->info(), attention::make_method(b)->info());
      if (compose == that_compose) out.emplace_back(a, b);
    }
  }
  return out;
}

std::string with(const std::string& name, std::string_view knobs) {
  return name + (knobs.empty() ? "" : ":") + std::string(knobs);
}

class EveryPair : public ::testing::TestWithParam<Pair> {
 protected:
  void SetUp() override {
    model_ = load_model(test_data("tiny-qwen2.gguf"));
    ASSERT_NE(model_, nullptr);
    const attention::ModelShape& shape = model_->shape();
    profile_ = probe::made_up_profile(shape);
    for (int i = 0; i < 90; ++i) ids_.push_back(static_cast<int32_t>(3 + (i * i + 7 * i) % (shape.vocab_size - 3)));
  }

  std::string neutral(const std::string& name) const {
    return with(name, attention::make_method(name)->info().neutral);
  }
  std::string example(const std::string& name) const {
    return with(name, attention::make_method(name)->info().example);
  }
  double distance(const char* law) const {
    return std::max(attention::allowed_distance(attention::make_method(GetParam().first)->info(), law),
                    attention::allowed_distance(attention::make_method(GetParam().second)->info(), law));
  }
  std::unique_ptr<Session> session(const std::string& attention, int chunk = 512) const {
    SessionOptions options{.numerics = kernels::Numerics::kExact};
    options.chunk = chunk;
    options.attention = attention;
    options.profile = profile_;
    return make_session(model_, options);
  }
  Rows all(Session& session) const {
    const SequenceId sequence = session.begin();
    Rows rows = prefill(session, sequence, ids_);
    for (const int32_t token : {5, 17, 9}) rows.push_back(decode(session, sequence, token));
    return rows;
  }
  static void expect_same(const Rows& found, const Rows& expected, double distance) {
    ASSERT_EQ(found.size(), expected.size());
    for (size_t t = 0; t < found.size(); ++t) {
      for (size_t i = 0; i < found[t].size(); ++i)
        ASSERT_NEAR(found[t][i], expected[t][i], distance) << "logit " << i << " of token " << t;
    }
  }

  std::shared_ptr<const Model> model_;
  std::shared_ptr<const attention::HeadProfile> profile_;
  std::vector<int32_t> ids_;
};

std::string name_of_pair(const ::testing::TestParamInfo<Pair>& info) {
  std::string name = info.param.first + "_and_" + info.param.second;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}
INSTANTIATE_TEST_SUITE_P(Registry, EveryPair, ::testing::ValuesIn(pairs(true)), name_of_pair);

// Pages that another method frees or adds move sums by rounding, so equal is within it where only one acts.
constexpr double kRounding = 2e-4;

TEST_P(EveryPair, IsDenseWhereBothAreNeutral) {
  const auto& [a, b] = GetParam();
  EXPECT_EQ(all(*session(neutral(a) + "," + neutral(b))), all(*session("dense")));
}

TEST_P(EveryPair, IsOneAloneWhereTheOtherIsNeutral) {
  const auto& [a, b] = GetParam();
  expect_same(all(*session(neutral(a) + "," + example(b))), all(*session(example(b))), kRounding);
  expect_same(all(*session(example(a) + "," + neutral(b))), all(*session(example(a))), kRounding);
}

TEST_P(EveryPair, ReadsAPromptInChunksAsAtOnce) {
  if (std::isinf(distance("chunks"))) GTEST_SKIP() << "one of them does not by design";
  const std::string both = example(GetParam().first) + "," + example(GetParam().second);
  const Rows whole = all(*session(both));
  for (const int chunk : {7, 64}) expect_same(all(*session(both, chunk)), whole, distance("chunks") + kRounding);
}

TEST_P(EveryPair, GivesInABatchWhatItGivesAlone) {
  const std::string both = example(GetParam().first) + "," + example(GetParam().second);
  auto batched = session(both);
  std::vector<Session::Step> steps;
  Rows alone;
  for (int i = 0; i < 2; ++i) {
    const auto mine = std::span<const int32_t>(ids_).subspan(0, ids_.size() - 31 * static_cast<size_t>(i));
    steps.push_back({batched->begin(), 5 + i});
    auto single = session(both);
    const SequenceId s = single->begin();
    EXPECT_EQ(prefill(*batched, steps.back().sequence, mine), prefill(*single, s, mine));
    alone.push_back(decode(*single, s, 5 + i));
  }
  const auto logits = batched->decode(steps);
  ASSERT_TRUE(logits.has_value()) << logits.error().message;
  for (int64_t i = 0; i < 2; ++i)
    EXPECT_EQ(Rows::value_type(logits->data() + i * logits->dim(1), logits->data() + (i + 1) * logits->dim(1)),
              alone[static_cast<size_t>(i)]);
}

TEST(PairsThatCannotRunTogether, AreRefusedByName) {
  const auto model = load_model(test_data("tiny-qwen2.gguf"));
  for (const auto& [a, b] : pairs(false)) {
    const auto parsed = attention::Pipeline::parse(
        with(a, attention::make_method(a)->info().neutral) + "," + with(b, attention::make_method(b)->info().neutral),
        model->shape());
    ASSERT_FALSE(parsed.has_value()) << a << " and " << b;
    EXPECT_THAT(parsed.error().message, AllOf(HasSubstr(a), HasSubstr(b), HasSubstr("cannot run together")));
  }
}

}  // namespace every_pair_test
}  // namespace fovea::engine
