#include "fovea/tasks/kl.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "fovea/base/testing/paths.h"

namespace fovea::tasks {
namespace kl_test {

std::shared_ptr<const engine::Model> tiny() {
  static const auto model = engine::Model::load(source_dir() + "/tests/data/tiny-llama.gguf");
  EXPECT_TRUE(model.has_value()) << model.error().message;
  return *model;
}

std::unique_ptr<engine::Session> session_of(kernels::Numerics numerics) {
  auto session = engine::Session::create(tiny(), {.numerics = numerics});
  EXPECT_TRUE(session.has_value()) << session.error().message;
  return std::move(session).value();
}

Windows windows() {
  auto cut = cut_windows("Whatever is said here is scored twice, once in each of the two sessions.", *tiny(), 16, 2);
  EXPECT_TRUE(cut.has_value()) << cut.error().message;
  return *cut;
}

TEST(KlDivergence, OfTwoRowsIsTheSumByHand) {
  const float p[] = {0, std::log(3.0f)}, q[] = {5, 5};  // 1/4, 3/4 and 1/2, 1/2
  EXPECT_NEAR(kl_divergence(p, q, 2), 0.25 * std::log(0.5) + 0.75 * std::log(1.5), 1e-7);
  EXPECT_NEAR(kl_divergence(q, p, 2), 0.5 * std::log(2.0) + 0.5 * std::log(2.0 / 3), 1e-7);
}

TEST(KlDivergence, IsNothingWhereRowsDifferByAConstantOnly) {
  const float p[] = {1, 2, 3}, q[] = {-7, -6, -5};
  EXPECT_NEAR(kl_divergence(p, q, 3), 0, 1e-9);
}

TEST(Divergence, OfASessionFromAnotherLikeItIsNothing) {
  const auto a = session_of(kernels::Numerics::kExact), b = session_of(kernels::Numerics::kExact);
  const Windows cut = windows();
  std::vector<size_t> progress;
  const auto found = measure_divergence(*a, *b, cut, {.progress = [&](size_t done) { progress.push_back(done); }});
  ASSERT_TRUE(found.has_value()) << found.error().message;
  EXPECT_EQ(found->n_scored, cut.count() * cut.n_scored());
  EXPECT_EQ(found->max, 0);
  EXPECT_EQ(found->same_top, 1);
  EXPECT_THAT(progress, testing::ElementsAre(15, 31));
  EXPECT_EQ(a->cache().bytes() + b->cache().bytes(), 0u);
}

TEST(Divergence, OfFastFromExactIsSmallAndItsSharesAreInOrder) {
  const auto exact = session_of(kernels::Numerics::kExact), fast = session_of(kernels::Numerics::kFast);
  const auto found = measure_divergence(*exact, *fast, windows());
  ASSERT_TRUE(found.has_value()) << found.error().message;
  EXPECT_GT(found->mean, 0);
  EXPECT_LT(found->mean, 0.01);
  EXPECT_GE(found->p99, found->mean);
  EXPECT_GE(found->max, found->p99);
}

TEST(Divergence, StopsAtTheFlagAndLeavesNoSequence) {
  const auto a = session_of(kernels::Numerics::kExact), b = session_of(kernels::Numerics::kFast);
  std::atomic<bool> cancel{false};
  const auto found =
      measure_divergence(*a, *b, windows(), {.progress = [&](size_t) { cancel = true; }, .cancel = &cancel});
  ASSERT_FALSE(found.has_value());
  EXPECT_EQ(found.error().code, ErrorCode::kCancelled);
  EXPECT_EQ(a->cache().bytes() + b->cache().bytes(), 0u);
}

}  // namespace kl_test
}  // namespace fovea::tasks
