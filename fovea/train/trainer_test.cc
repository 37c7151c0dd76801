#include "fovea/train/trainer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "fovea/base/random.h"
#include "fovea/tensor/ops/ops.h"

namespace fovea::train {
namespace trainer_test {

using tensor::Tensor;
using ::testing::HasSubstr;

Trainer make(const std::vector<Param>& params, const TrainerOptions& options, const char* optimizer,
             int64_t steps = 100) {
  Settings s(nlohmann::ordered_json::parse(optimizer), "f.json");
  Settings plain(nlohmann::ordered_json::object(), "f.json");
  return {params, make_part<Optimizer>(s, "name", s.text("name", "")),
          make_part<Schedule>(plain, "name", "constant", {.steps = steps}), options};
}

Param param(const std::string& name, std::vector<float> values) {
  return {.name = name, .hf_name = "", .value = Tensor::from({static_cast<int64_t>(values.size())}, values)};
}

// Half the squared distance from `target`.
Tensor loss_of(const Tensor& w, const std::vector<float>& target, float by = 0.5f) {
  return tensor::affine(tensor::squared_error(w, Tensor::from(w.shape(), target)), by);
}

TEST(Trainer, FollowsTheGradientAndSaysItsNorm) {
  Param w = param("w", {3, 4});
  Trainer trainer = make({w}, {}, R"({"name": "sgd", "lr": 0.5})");
  const auto out = trainer.step(1, [&](int) { return loss_of(w.value, {0, 0}); });
  EXPECT_FLOAT_EQ(static_cast<float>(out.loss), 12.5f);
  EXPECT_DOUBLE_EQ(out.grad_norm, 5);
  EXPECT_DOUBLE_EQ(out.lr, 0.5);
  EXPECT_THAT(w.value.values(), ::testing::ElementsAre(1.5f, 2.0f));
  EXPECT_EQ(trainer.steps_done(), 1);
}

TEST(Trainer, SharesAddUpToTheWhole) {
  const auto run = [](int parts) {
    Param w = param("w", {3, 4});
    Trainer trainer = make({w}, {}, R"({"name": "sgd", "lr": 0.5})");
    trainer.step(parts, [&](int i) {
      if (parts == 3 && i == 1) return Tensor();  // nothing is wanted there
      return loss_of(w.value, {0, 0}, parts == 3 ? i == 0 ? 0.125f : 0.375f : 0.5f);
    });
    return std::vector<float>(w.value.values().begin(), w.value.values().end());
  };
  EXPECT_EQ(run(1), run(3));
}

TEST(Trainer, ClipsTheNormOfAllTogetherAndSingleValuesBefore) {
  Param a = param("a", {3}), b = param("b", {4});
  Trainer trainer = make({a, b}, {.clip = 1}, R"({"name": "sgd", "lr": 1})");
  const auto both = [&](int) { return tensor::add(loss_of(a.value, {0}), loss_of(b.value, {0})); };
  EXPECT_DOUBLE_EQ(trainer.step(1, both).grad_norm, 5);
  EXPECT_NEAR(a.value.data()[0], 3 - 0.6, 1e-6);
  EXPECT_NEAR(b.value.data()[0], 4 - 0.8, 1e-6);
  Param c = param("c", {3, -0.25});
  Trainer by_value = make({c}, {.clip_value = 1}, R"({"name": "sgd", "lr": 1})");
  by_value.step(1, [&](int) { return loss_of(c.value, {0, 0}); });
  EXPECT_THAT(c.value.values(), ::testing::ElementsAre(2.0f, 0.0f));
}

TEST(Trainer, KeepsAnAverageThatTakesTheWeightsPlaceForAWhile) {
  Param w = param("w", {1});
  Trainer trainer = make({w}, {.ema = 0.75}, R"({"name": "sgd", "lr": 0.5})");
  trainer.step(1, [&](int) { return loss_of(w.value, {0}); });
  EXPECT_FLOAT_EQ(w.value.data()[0], 0.5f);
  {
    const Trainer::Averaged averaged(trainer);
    EXPECT_FLOAT_EQ(w.value.data()[0], 0.75f * 1 + 0.25f * 0.5f);
  }
  EXPECT_FLOAT_EQ(w.value.data()[0], 0.5f);
}

TEST(Trainer, KeepsValuesWithinTheirBounds) {
  Param w = param("w", {0.9f, 0.1f, 0.5f}), free = param("free", {0.9f});
  w.least = 0, w.most = 1;
  Trainer trainer = make({w, free}, {}, R"({"name": "sgd", "lr": 1})");
  trainer.step(1, [&](int) { return tensor::add(loss_of(w.value, {3, -3, 0.75f}), loss_of(free.value, {3})); });
  EXPECT_THAT(w.value.values(), ::testing::ElementsAre(1.0f, 0.0f, 0.75f));
  EXPECT_THAT(free.value.values(), ::testing::ElementsAre(3.0f));
}

TEST(Trainer, ChangesNothingWhereANumberIsBad) {
  Param good = param("good", {1}), bad = param("bad", {-1});
  Trainer trainer = make({good, bad}, {}, R"({"name": "adamw"})");
  const auto root = [&](int) {
    return tensor::add(tensor::sum(good.value), tensor::affine(tensor::sum(tensor::sqrt(bad.value)), 0));
  };
  const auto out = trainer.step(1, root);
  EXPECT_EQ(out.bad, "loss");
  EXPECT_EQ(good.value.data()[0], 1);
  EXPECT_EQ(trainer.steps_done(), 0);
  bad.value.data()[0] = 0;  // its slope is without bound
  const auto slope = trainer.step(1, root);
  EXPECT_EQ(slope.bad, "bad");
  EXPECT_EQ(good.value.data()[0], 1);
}

TEST(Trainer, ItsStateIsAllThatTheNextStepDependsOn) {
  const auto loss = [](const Param& w) { return [&w](int) { return loss_of(w.value, {5, -2}); }; };
  Param a = param("w", {1, 2}), b = param("w", {9, 9});
  Trainer first = make({a}, {.ema = 0.9}, R"({"name": "adamw", "lr": 0.1})"),
          second = make({b}, {.ema = 0.9}, R"({"name": "adamw", "lr": 0.1})");
  first.step(1, loss(a)), first.step(1, loss(a));
  const auto from = first.state();
  auto to = second.state();
  ASSERT_EQ(from.size(), 4u);
  for (size_t i = 0; i < from.size(); ++i) {
    EXPECT_EQ(from[i].first, to[i].first);
    std::copy_n(from[i].second.data(), 2, to[i].second.data());
  }
  second.resume(first.steps_done());
  first.step(1, loss(a)), second.step(1, loss(b));
  EXPECT_THAT(std::vector<float>(b.value.values().begin(), b.value.values().end()),
              ::testing::ElementsAreArray(a.value.values()));
}

}  // namespace trainer_test
}  // namespace fovea::train
