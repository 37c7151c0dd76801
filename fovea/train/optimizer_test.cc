// Every optimizer against what PyTorch's gives, from the same weights and gradients.
#include "fovea/train/optimizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

namespace fovea::train {
namespace optimizer_test {

using tensor::Tensor;
using ::testing::HasSubstr;

std::unique_ptr<Optimizer> make(const char* settings) {
  Settings s(nlohmann::ordered_json::parse(settings), "f.json");
  auto made = make_part<Optimizer>(s, "name", s.text("name", ""));
  const Status end = s.finish();
  EXPECT_TRUE(end.has_value()) << end.error().message;
  return made;
}

// Three steps with the gradient g[i] = sin(i + 1 + step) of weights w[i] = cos(i).
std::vector<float> after_three(const char* settings, const tensor::Shape& shape, double scale = 1) {
  const auto optimizer = make(settings);
  Param param{.name = "w", .hf_name = "", .value = Tensor::empty(shape)};
  for (int64_t i = 0; i < param.value.elements(); ++i) param.value.data()[i] = std::cos(static_cast<float>(i));
  std::vector<Tensor> slots;
  for (size_t i = optimizer->slots(param).size(); i > 0; --i) slots.push_back(Tensor::zeros(shape));
  for (int64_t step = 0; step < 3; ++step) {
    Tensor g = Tensor::empty(shape);
    for (int64_t i = 0; i < g.elements(); ++i) g.data()[i] = std::sin(static_cast<float>(i + 1 + step));
    optimizer->update(param, g, slots, {.number = step, .factor = 1, .scale = scale});
  }
  return {param.value.values().begin(), param.value.values().end()};
}

void expect_near(const std::vector<float>& found, const std::vector<float>& want, double tolerance = 1e-6) {
  ASSERT_EQ(found.size(), want.size());
  for (size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(found[i], want[i], tolerance) << i;
}

// The numbers are those of PyTorch 2.15.
TEST(AdamW, GivesPyTorchsWeights) {
  expect_near(after_three(R"({"name": "adamw", "lr": 0.1, "betas": [0.9, 0.99], "weight_decay": 0.1})", {2, 3}),
              {0.68887597f, 0.34349376f, -0.36259222f, -0.67403132f, -0.43187547f, 0.26073343f});
  expect_near(after_three(R"({"name": "adamw"})", {4}), {0.99712735f, 0.53845257f, -0.4157328f, -0.98706818f});
}

TEST(AdamW, DecaysMatricesAloneWhereItIsToldTo) {
  const char *all = R"({"name": "adamw", "weight_decay": 0.5})",
             *matrices = R"({"name": "adamw", "weight_decay": 0.5, "decay": "matrices"})",
             *none = R"({"name": "adamw", "weight_decay": 0})";
  EXPECT_EQ(after_three(matrices, {4}), after_three(none, {4}));
  EXPECT_EQ(after_three(matrices, {2, 2}), after_three(all, {2, 2}));
  EXPECT_NE(after_three(all, {4}), after_three(none, {4}));
}

TEST(Adam, GivesPyTorchsWeights) {
  expect_near(after_three(R"({"name": "adam", "lr": 0.05, "weight_decay": 0.2})", {4}, /*scale=*/0.5),
              {0.85409546f, 0.43196562f, -0.28461483f, -0.84270245f});
}

TEST(Sgd, GivesPyTorchsWeights) {
  expect_near(after_three(R"({"name": "sgd", "lr": 0.1})", {4}),
              {0.81081116f, 0.51094085f, -0.25868616f, -0.79047829f});
  expect_near(after_three(R"({"name": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.1})", {4}),
              {0.5335604f, 0.3162854f, -0.19178091f, -0.5235247f});
  expect_near(after_three(R"({"name": "sgd", "lr": 0.1, "momentum": 0.9, "nesterov": true})", {4}),
              {0.43738574f, 0.33314392f, -0.07738893f, -0.41677076f});
}

// The numbers are those of the formula in float64. PyTorch turns the momentum in bfloat16, and is 0.006 from them.
TEST(Muon, IsItsFormula) {
  expect_near(after_three(R"({"name": "muon", "lr": 0.1, "momentum": 0.9})", {3, 2}),
              {0.8193486f, 0.4933655f, -0.3656229f, -0.748268f, -0.515043f, 0.1294132f}, 2e-6);
  expect_near(after_three(R"({"name": "muon", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.1})", {2, 3}),
              {0.8736616f, 0.6116461f, -0.212714f, -0.8545869f, -0.452664f, 0.3654361f}, 2e-6);
}

TEST(Muon, FollowsAdamWForVectorsAndTables) {
  expect_near(after_three(R"({"name": "muon", "adam_lr": 0.1, "betas": [0.9, 0.99]})", {4}),
              after_three(R"({"name": "adamw", "lr": 0.1, "betas": [0.9, 0.99], "weight_decay": 0})", {4}));
  const auto muon = make(R"({"name": "muon"})");
  Param table{.name = "token_embd.weight", .hf_name = "", .value = Tensor::zeros({4, 4}), .table = true};
  EXPECT_THAT(muon->slots(table), ::testing::ElementsAre("m", "v"));
  table.table = false;
  EXPECT_THAT(muon->slots(table), ::testing::ElementsAre("b"));
}

TEST(Optimizers, RefuseWhatMakesNoSense) {
  const auto problem = [](const char* settings) {
    Settings s(nlohmann::ordered_json::parse(settings), "f.json");
    (void)make_part<Optimizer>(s, "name", s.text("name", ""));
    const Status end = s.finish();
    return end ? std::string() : end.error().message;
  };
  EXPECT_THAT(problem(R"({"name": "adamx"})"), HasSubstr("did you mean adam?"));
  EXPECT_THAT(problem(R"({"name": "adamw", "betas": [0.9, 1]})"), HasSubstr("betas hold a 1"));
  EXPECT_THAT(problem(R"({"name": "adamw", "betas": [0.9]})"), HasSubstr("a list of 2 numbers"));
  EXPECT_THAT(problem(R"({"name": "adamw", "lr": -1})"), HasSubstr("lr is -1"));
  EXPECT_THAT(problem(R"({"name": "sgd", "nesterov": true})"), HasSubstr("without a momentum"));
  EXPECT_THAT(problem(R"({"name": "sgd", "betas": [0.9, 0.9]})"), HasSubstr("betas is no setting here"));
}

}  // namespace optimizer_test
}  // namespace fovea::train
