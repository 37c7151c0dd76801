// What a mixer passes on goes forward alone, within one sample.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "fovea/tensor/exec.h"
#include "fovea/train/nets/task_net.h"

namespace fovea::train {
namespace mixer_test {

using Json = nlohmann::ordered_json;

class EveryMixer : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    Settings s(Json{{"vocab_size", 8}, {"d_model", 12}, {"n_layers", 2}, {"mixer", GetParam()}}, "f.json");
    net_ = make_part<TaskNet>(s, "net", "mixer", {.seed = 3});
    ASSERT_TRUE(s.finish().has_value()) << s.finish().error().message;
  }
  float loss(const std::vector<Sample>& samples) const {
    tensor::Exec exec{.numerics = tensor::Numerics::kExact};
    const tensor::ExecScope scope(exec);
    attention::Hooks none(net_->hooks());
    return net_->loss_sum(samples, {none, nullptr, 7, nullptr}).data()[0];
  }
  std::unique_ptr<TaskNet> net_;
};

TEST_P(EveryMixer, LooksBackAlone) {
  const std::vector<int32_t> targets = {kNoTarget, kNoTarget, 4, kNoTarget, kNoTarget};
  const float there = loss({{.tokens = {1, 2, 3, 5, 6}, .targets = targets}});
  EXPECT_EQ(loss({{.tokens = {1, 2, 3, 7, 0}, .targets = targets}}), there);
  EXPECT_NE(loss({{.tokens = {7, 2, 3, 5, 6}, .targets = targets}}), there);
  EXPECT_NE(loss({{.tokens = {1, 7, 3, 5, 6}, .targets = targets}}), there);
}

TEST_P(EveryMixer, SamplesDoNotSeeEachOther) {
  const Sample brief{.tokens = {1, 2}, .targets = {kNoTarget, 5}},
      longer{.tokens = {3, 4, 5, 6, 7}, .targets = {4, 5, 6, 7, 0}};
  const float both = loss({brief, longer}), other = loss({longer, brief}), alone = loss({brief}) + loss({longer});
  EXPECT_NEAR(both, alone, 1e-5 * alone);
  EXPECT_NEAR(other, alone, 1e-5 * alone);
}

INSTANTIATE_TEST_SUITE_P(Mixers, EveryMixer, ::testing::Values("linear-attention", "decay", "conv"),
                         [](const auto& one) { return std::to_string(one.index); });

}  // namespace mixer_test
}  // namespace fovea::train
