// What two towers lose where it is known beforehand.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "fovea/tensor/exec.h"
#include "fovea/tensor/tape.h"
#include "fovea/train/nets/task_net.h"

namespace fovea::train {
namespace two_tower_test {

using tensor::Tensor;
using Json = nlohmann::ordered_json;

class TwoTowers : public ::testing::Test {
 protected:
  void SetUp() override {
    Settings s(Json{{"size", 8}, {"patch", 4}, {"d_model", 16}, {"n_layers", 1}, {"n_heads", 2}, {"vocab_size", 9}},
               "f.json");
    net_ = make_part<TaskNet>(s, "net", "two-tower", {.seed = 3});
    ASSERT_TRUE(s.finish().has_value()) << s.finish().error().message;
    for (const Param& param : net_->params()) {
      if (param.name == "log_scale") log_scale_ = param.value;
    }
  }
  static Sample sample(float pixel, std::vector<int32_t> tokens) {
    auto picture = std::make_shared<Picture>();
    picture->channels = 3, picture->height = picture->width = 8;
    for (int i = 0; i < 3 * 64; ++i) picture->pixels.push_back(i % 7 == 0 ? pixel : 0.1f);
    Sample out{.tokens = tokens, .targets = std::vector<int32_t>(tokens.size(), kNoTarget)};
    out.picture = std::move(picture);
    return out;
  }
  float loss(const std::vector<Sample>& samples) const {
    attention::Hooks none(net_->hooks());
    return net_->loss_sum(samples, {none, nullptr, 7, nullptr}).data()[0];
  }
  std::unique_ptr<TaskNet> net_;
  Tensor log_scale_;
  const std::vector<Sample> different_ = {sample(1, {1, 2}), sample(-1, {3, 4, 5}), sample(0, {6})};
};

TEST_F(TwoTowers, CannotTellEqualSamplesApart) {
  EXPECT_NEAR(loss({sample(1, {1, 2}), sample(1, {1, 2}), sample(1, {1, 2})}), 3 * std::log(3.0), 1e-4);
  EXPECT_EQ(loss({sample(1, {1, 2})}), 0);
}

TEST_F(TwoTowers, ReadBothSidesAndTheirOrder) {
  const float there = loss(different_);
  std::vector<Sample> turned = different_;
  turned[1].tokens = {5, 4, 3};
  EXPECT_NE(loss(turned), there);
  turned = different_;
  turned[0].picture = sample(0.5f, {}).picture;
  EXPECT_NE(loss(turned), there);
  // The order in a batch says nothing.
  EXPECT_NEAR(loss({different_[2], different_[0], different_[1]}), there, 1e-4);
}

TEST_F(TwoTowers, HooksSeeBothInTheSpaceTheyShareAndMayPutOthersThere) {
  attention::Hooks hooks(net_->hooks());
  std::vector<float> values(48);
  for (size_t i = 0; i < 3; ++i) values[i * 16 + i] = 2;
  const Tensor axes = Tensor::from({3, 16}, values);  // a picture and its caption on an axis each
  for (const char* name : {"vision.proj.hook_out", "proj.hook_out"}) {
    ASSERT_TRUE(hooks
                    .attach(name,
                            [&](const std::string&, Tensor& x) {
                              EXPECT_EQ(x.shape(), axes.shape());
                              x = axes;
                            })
                    .has_value());
  }
  const float sum = net_->loss_sum(different_, {hooks, nullptr, 7, nullptr}).data()[0];
  EXPECT_NEAR(sum, 3 * std::log(1 + 2 * std::exp(-1 / 0.07)), 1e-4);  // cosines of 1 and 0 at the first temperature
}

TEST_F(TwoTowers, BeginAtTheirTemperatureAndStayAboveTheLeast) {
  EXPECT_NEAR(log_scale_.data()[0], -std::log(0.07), 1e-6);
  const auto slope_at = [&](double scale) {
    log_scale_.data()[0] = static_cast<float>(std::log(scale));
    tensor::Tape tape;
    tensor::Exec exec{.tape = &tape};
    const tensor::ExecScope scope(exec);
    tape.watch(log_scale_);
    attention::Hooks none(net_->hooks());
    const Tensor sum = net_->loss_sum(different_, {none, nullptr, 7, nullptr});
    tape.backward(sum);
    return std::pair{sum.data()[0], tape.grad(log_scale_).data()[0]};
  };
  const auto [most, slope] = slope_at(100);
  const auto [held, held_slope] = slope_at(5000);
  EXPECT_NEAR(held, most, 1e-4 * most);
  EXPECT_NEAR(held_slope, slope, 1e-3 * std::abs(slope));
  EXPECT_NE(slope, 0);
}

}  // namespace two_tower_test
}  // namespace fovea::train
