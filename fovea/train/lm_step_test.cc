#include "fovea/train/lm_step.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

namespace fovea::train {
namespace lm_step_test {

using Json = nlohmann::ordered_json;

struct Trained {
  explicit Trained(bool recompute = false, const Json& optimizer = {{"name", "sgd"}, {"lr", 0.1}}) {
    Settings config(
        {{"model", {{"net", "llama"}, {"d_model", 16}, {"n_layers", 2}, {"n_heads", 2}, {"vocab_size", 11}}}},
        "f.json");
    model = std::move(TrainedModel::open(config, 8)).value();
    Settings by(optimizer, "f.json"), plain(Json::object(), "f.json");
    trainer = std::make_unique<Trainer>(model->params(), make_part<Optimizer>(by, "name", by.text("name", "")),
                                        make_part<Schedule>(plain, "name", "constant", {.steps = 9}), TrainerOptions{});
    std::vector<std::unique_ptr<Loss>> losses;
    losses.push_back(make_part<Loss>(plain, "name", "next-token", {.model = model.get()}));
    step = std::make_unique<LmStep>(*model, std::move(losses), recompute);
  }
  std::unique_ptr<TrainedModel> model;
  std::unique_ptr<Trainer> trainer;
  std::unique_ptr<LmStep> step;
};

// Of 7, 2 and 4 tokens, some of which want nothing.
std::vector<Sample> samples() {
  return {{{1, 2, 3, 4, 5, 6, 7}, {2, 3, kNoTarget, 5, 6, 7, 8}},
          {{9, 3}, {kNoTarget, 1}},
          {{4, 4, 2, 1}, {kNoTarget, kNoTarget, 1, 0}}};
}

TEST(LmStep, AccumulatesUnequalCountsExactly) {
  Trained whole, parts;
  const auto s = samples();
  const auto a = whole.step->step(*whole.trainer, {MicroBatch(s)}, nullptr);
  const std::vector<MicroBatch> split = {MicroBatch(std::vector<Sample>{s[0]}), MicroBatch(std::vector<Sample>{s[1]}),
                                         MicroBatch(std::vector<Sample>{s[2]})};
  const auto b = parts.step->step(*parts.trainer, split, nullptr);
  EXPECT_NEAR(a.loss, b.loss, 1e-6);
  EXPECT_NEAR(a.grad_norm, b.grad_norm, 1e-5 * a.grad_norm);
  for (size_t i = 0; i < whole.model->params().size(); ++i) {
    const auto x = whole.model->params()[i].value.values(), y = parts.model->params()[i].value.values();
    for (size_t k = 0; k < x.size(); ++k) ASSERT_NEAR(x[k], y[k], 1e-6) << whole.model->params()[i].name;
  }
}

TEST(LmStep, RecomputedBlocksGiveTheSameBits) {
  Trained plain(false), again(true);
  const auto a = plain.step->step(*plain.trainer, {MicroBatch(samples())}, nullptr);
  const auto b = again.step->step(*again.trainer, {MicroBatch(samples())}, nullptr);
  EXPECT_EQ(a.loss, b.loss);
  EXPECT_EQ(a.grad_norm, b.grad_norm);
}

TEST(LmStep, AStopInTheMiddleChangesNothing) {
  Trained setup;
  const std::atomic<bool> stop{true};
  EXPECT_THROW(setup.step->step(*setup.trainer, {MicroBatch(samples())}, &stop), attention::Cancelled);
  EXPECT_EQ(setup.trainer->steps_done(), 0);
  Trained other;
  const auto a = setup.step->step(*setup.trainer, {MicroBatch(samples())}, nullptr);
  EXPECT_EQ(a.loss, other.step->step(*other.trainer, {MicroBatch(samples())}, nullptr).loss);
}

TEST(LmStep, NamesTheFirstBadTensor) {
  Trained setup;
  EXPECT_EQ(setup.step->first_bad(*setup.trainer, {MicroBatch(samples())}), "");
  for (const Param& p : setup.model->params()) {
    tensor::Tensor value = p.value;
    if (p.name == "blk.1.ffn_down.weight") std::fill_n(value.data(), value.elements(), 1e38f);
  }
  EXPECT_EQ(setup.step->first_bad(*setup.trainer, {MicroBatch(samples())}), "ln_final.hook_scale");
  tensor::Tensor value = setup.model->params()[0].value;
  value.data()[3] = NAN;
  EXPECT_EQ(setup.step->first_bad(*setup.trainer, {MicroBatch(samples())}),
            "parameter " + setup.model->params()[0].name);
}

}  // namespace lm_step_test
}  // namespace fovea::train
