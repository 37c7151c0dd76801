#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>

#include "fovea/engine/generate.h"

namespace fovea::engine {
namespace sampler_test {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Key;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN(), kInf = std::numeric_limits<float>::infinity();

SamplingOptions everything() { return {.temperature = 1, .top_k = 0, .top_p = 1, .min_p = 0}; }

// How often each token comes out of n draws.
std::map<int32_t, int> drawn(const SamplingOptions& options, const std::vector<float>& logits, int n = 4000) {
  Sampler sampler(options);
  std::map<int32_t, int> counts;
  for (int i = 0; i < n; ++i) ++counts[sampler.sample(logits, {})];
  return counts;
}

// Probabilities 0.5, 0.25, 0.125, 0.125, in another order.
const std::vector<float> kLogits = {std::log(0.125f), std::log(0.5f), std::log(0.125f), std::log(0.25f)};

TEST(Sampler, TemperatureZeroTakesTheFirstOfTheBest) {
  SamplingOptions options;
  options.temperature = 0;
  Sampler sampler(options);
  EXPECT_EQ(sampler.sample(std::vector<float>{1, 3, 3, 2}, {}), 1);
}

TEST(Sampler, DrawsByProbability) {
  const auto counts = drawn(everything(), kLogits, 20000);
  // Deviation of a count is at most sqrt(20000 / 4) = 71: 5 of them.
  EXPECT_NEAR(counts.at(1), 10000, 355);
  EXPECT_NEAR(counts.at(3), 5000, 355);
  EXPECT_NEAR(counts.at(0), 2500, 355);
  EXPECT_NEAR(counts.at(2), 2500, 355);
}

TEST(Sampler, TemperatureSharpens) {
  SamplingOptions options = everything();
  options.temperature = 0.5f;  // squares the probabilities: 0.25 of 0.34375
  EXPECT_NEAR(drawn(options, kLogits, 20000).at(1), 20000 * 0.25 / 0.34375, 355);
}

TEST(Sampler, TopKKeepsTheKBestAndTheLowerIdOfEquals) {
  SamplingOptions options = everything();
  options.top_k = 3;
  EXPECT_THAT(drawn(options, kLogits), ElementsAre(Key(0), Key(1), Key(3)));
  options.top_k = 1;
  EXPECT_THAT(drawn(options, kLogits), ElementsAre(Key(1)));
  options.top_k = 100;
  EXPECT_EQ(drawn(options, kLogits).size(), 4u);
}

TEST(Sampler, TopPKeepsTheFewestThatHoldP) {
  SamplingOptions options = everything();
  options.top_p = 0.5f;
  EXPECT_THAT(drawn(options, kLogits), ElementsAre(Key(1)));
  options.top_p = 0.51f;
  EXPECT_THAT(drawn(options, kLogits), ElementsAre(Key(1), Key(3)));
  options.top_p = 0;
  EXPECT_THAT(drawn(options, kLogits), ElementsAre(Key(1)));
}

TEST(Sampler, TopPCountsWhatTopKLeft) {
  SamplingOptions options = everything();
  options.top_k = 2;  // 0.5 and 0.25, which is 2/3 and 1/3 of what is left
  options.top_p = 0.6f;
  EXPECT_THAT(drawn(options, kLogits), ElementsAre(Key(1)));
}

TEST(Sampler, MinPComparesWithTheLikeliestAndDoesNotChangeTopP) {
  SamplingOptions options = everything();
  options.min_p = 0.3f;
  EXPECT_THAT(drawn(options, kLogits), ElementsAre(Key(1), Key(3)));
  options.min_p = 1;
  EXPECT_THAT(drawn(options, kLogits), ElementsAre(Key(1)));
  options.min_p = 0.3f;
  options.top_p = 0.6f;  // of all four; of the two that min-p leaves it would be one
  EXPECT_THAT(drawn(options, kLogits), ElementsAre(Key(1), Key(3)));
}

TEST(Sampler, BiasAddsAndBans) {
  SamplingOptions options;
  options.temperature = 0;
  options.logit_bias = {{1, -kInf}, {2, 5.0f}};
  Sampler sampler(options);
  EXPECT_EQ(sampler.sample(kLogits, {}), 2);
  options = everything();
  options.logit_bias = {{1, -kInf}};
  EXPECT_THAT(drawn(options, kLogits), ElementsAre(Key(0), Key(2), Key(3)));
}

TEST(Sampler, RepeatPenaltyDividesPositiveAndMultipliesNegativeLogitsOnce) {
  SamplingOptions options;
  options.temperature = 0;
  options.repeat_penalty = 2;
  Sampler sampler(options);
  const std::vector<int32_t> history = {0, 0, 0};
  EXPECT_EQ(sampler.sample(std::vector<float>{3, 1.4f}, history), 0);  // 1.5
  EXPECT_EQ(sampler.sample(std::vector<float>{3, 1.6f}, history), 1);
  EXPECT_EQ(sampler.sample(std::vector<float>{-1, -1.9f}, history), 1);  // -2
  EXPECT_EQ(sampler.sample(std::vector<float>{-1, -2.1f}, history), 0);
}

TEST(Sampler, RepeatPenaltyLooksBackSoFarOnly) {
  SamplingOptions options;
  options.temperature = 0;
  options.repeat_penalty = 2;
  options.repeat_last_n = 2;
  const std::vector<int32_t> history = {0, 5, 6};
  const std::vector<float> logits = {3, 2, 0, 0, 0, 0, 0};
  EXPECT_EQ(Sampler(options).sample(logits, history), 0);
  options.repeat_last_n = -1;
  EXPECT_EQ(Sampler(options).sample(logits, history), 1);
  options.repeat_last_n = 0;
  EXPECT_EQ(Sampler(options).sample(logits, history), 0);
}

TEST(Sampler, SameSeedSameTokens) {
  std::vector<float> logits(1000);
  for (size_t i = 0; i < logits.size(); ++i) logits[i] = std::sin(static_cast<float>(i));
  SamplingOptions options;
  options.seed = 7;
  Sampler a(options), b(options);
  options.seed = 8;
  Sampler other(options);
  int differ = 0;
  for (int i = 0; i < 100; ++i) {
    const int32_t token = a.sample(logits, {});
    EXPECT_EQ(token, b.sample(logits, {}));
    differ += token != other.sample(logits, {});
  }
  EXPECT_GT(differ, 50);
}

TEST(Sampler, NeverChoosesWhatIsNotANumber) {
  EXPECT_THAT(drawn(everything(), {kNan, 0, -kInf, kNan}), ElementsAre(Key(1)));
  EXPECT_THAT(drawn({}, {kNan, kNan}), ElementsAre(Key(0)));
  EXPECT_THAT(drawn({}, {0, kInf, 0}), ElementsAre(Key(1)));
  SamplingOptions cold = everything();
  cold.temperature = 1e-45f;
  EXPECT_THAT(drawn(cold, kLogits), ElementsAre(Key(1)));
}

std::string refused(const SamplingOptions& options) {
  const Status status = check_sampling(options, 300);
  return status ? "" : status.error().code == ErrorCode::kUsage ? status.error().message : "another code";
}

TEST(Sampler, H6_OptionsOutOfRangeAreNamedWithTheirRange) {
  EXPECT_EQ(refused({}), "");
  for (const float t : {-1.0f, kNan, kInf, 1e38f, 999999.0f}) {
    EXPECT_THAT(refused({.temperature = t}), AllOf(HasSubstr("temperature"), HasSubstr("0 to 100"))) << t;
  }
  for (const float p : {-1.0f, 2.0f, kNan}) {
    EXPECT_THAT(refused({.top_p = p}), AllOf(HasSubstr("top_p"), HasSubstr("0 to 1"))) << p;
    EXPECT_THAT(refused({.min_p = p}), AllOf(HasSubstr("min_p"), HasSubstr("0 to 1"))) << p;
  }
  EXPECT_THAT(refused({.top_k = -1}), HasSubstr("top_k"));
  for (const float r : {0.0f, -1.0f, kNan, 1e9f})
    EXPECT_THAT(refused({.repeat_penalty = r}), HasSubstr("repeat_penalty")) << r;
  EXPECT_THAT(refused({.repeat_last_n = -2}), HasSubstr("repeat_last_n"));
}

TEST(Sampler, H7_BiasesOfNoTokenOrTooManyAreRefused) {
  SamplingOptions options;
  options.logit_bias = {{300, 1.0f}};
  EXPECT_THAT(refused(options), AllOf(HasSubstr("token 300"), HasSubstr("0 to 299")));
  options.logit_bias = {{-1, 1.0f}};
  EXPECT_THAT(refused(options), HasSubstr("token -1"));
  for (const float bias : {kNan, kInf, 1e30f}) {
    options.logit_bias = {{5, bias}};
    EXPECT_THAT(refused(options), HasSubstr("token 5")) << bias;
  }
  options.logit_bias.clear();
  for (int32_t i = 0; i < 1025; ++i) options.logit_bias[i] = 1;
  EXPECT_THAT(refused(options), HasSubstr("1024"));
}

TEST(Sampler, PresenceIsTakenOnceAndFrequencyAsOftenAsATokenOccurred) {
  SamplingOptions options;
  options.temperature = 0;
  const std::vector<float> logits = {3.0f, 2.9f, 2.0f, 1.0f};
  const auto chosen = [&](float presence, float frequency, const std::vector<int32_t>& history) {
    SamplingOptions with = options;
    with.presence_penalty = presence;
    with.frequency_penalty = frequency;
    return Sampler(with).sample(logits, history);
  };
  EXPECT_EQ(chosen(0.2f, 0, {0}), 1);              // 2.8 under 2.9
  EXPECT_EQ(chosen(0.2f, 0, {0, 0, 1}), 0);        // 2.8 over 2.7: once, however often
  EXPECT_EQ(chosen(0, 0.2f, {0, 0, 1}), 1);        // 2.6 under 2.7
  EXPECT_EQ(chosen(0, 0.5f, {0, 0, 0, 1, 1}), 2);  // 1.5, 1.9 and 2.0
  EXPECT_EQ(chosen(-1, 0, {1}), 1);                // a negative one draws the token on
  EXPECT_EQ(chosen(0.2f, 0.2f, {}), 0);
  SamplingOptions window = options;
  window.presence_penalty = 1;
  window.repeat_last_n = 1;
  EXPECT_EQ(Sampler(window).sample(logits, std::vector<int32_t>{0, 3}), 0);  // looks back as far as repeat_last_n
}

TEST(Sampler, PenaltiesHaveARange) {
  for (const float value : {-2.1f, 2.1f, kNan}) {
    SamplingOptions options;
    options.presence_penalty = value;
    EXPECT_THAT(check_sampling(options, 10).error().message,
                AllOf(HasSubstr("presence_penalty"), HasSubstr("-2 to 2")));
    options = {};
    options.frequency_penalty = value;
    EXPECT_THAT(check_sampling(options, 10).error().message, HasSubstr("frequency_penalty"));
  }
}

TEST(Logprobs, AreThoseOfTheModelTheLikeliestFirst) {
  const PositionLogprobs out = logprobs_of(kLogits, 3, 3);  // 0.125, 0.5, 0.125, 0.25
  EXPECT_EQ(out.chosen.token, 3);
  EXPECT_NEAR(out.chosen.logprob, std::log(0.25), 1e-6);
  ASSERT_EQ(out.top.size(), 3u);
  EXPECT_EQ(out.top[0].token, 1);
  EXPECT_NEAR(out.top[0].logprob, std::log(0.5), 1e-6);
  EXPECT_EQ(out.top[1].token, 3);
  EXPECT_EQ(out.top[2].token, 0);  // the lower id of equals
  EXPECT_EQ(logprobs_of(kLogits, 0, 100).top.size(), 4u);
  EXPECT_TRUE(logprobs_of(kLogits, 0, 0).top.empty());
  const PositionLogprobs banned = logprobs_of(std::vector<float>{0, -kInf, kNan}, 1, 3);
  EXPECT_EQ(banned.chosen.logprob, -kInf);
  EXPECT_EQ(banned.top[0].logprob, 0);
}

}  // namespace sampler_test
}  // namespace fovea::engine
