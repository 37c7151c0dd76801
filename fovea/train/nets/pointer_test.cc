// A pointer reads its points as a set, and a chosen one as it is, not as a place.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "fovea/tensor/exec.h"
#include "fovea/train/nets/task_net.h"

namespace fovea::train {
namespace pointer_test {

using Json = nlohmann::ordered_json;

class PointerNet : public ::testing::Test {
 protected:
  void SetUp() override {
    Settings s(Json{{"d_model", 16}, {"n_layers", 2}, {"n_heads", 2}}, "f.json");
    net_ = make_part<TaskNet>(s, "net", "pointer", {.seed = 3});
    ASSERT_TRUE(s.finish().has_value()) << s.finish().error().message;
  }
  // Points of two numbers, with room for `height` of them, and an answer that ends.
  static Sample sample(const std::vector<float>& points, std::vector<int32_t> answer, int32_t height) {
    auto picture = std::make_shared<Picture>();
    picture->channels = 1, picture->height = height, picture->width = 2;
    picture->pixels = points;
    picture->mask.assign(points.size(), 1);
    picture->pixels.resize(static_cast<size_t>(2 * height), 0.5f);
    picture->mask.resize(static_cast<size_t>(2 * height), 0);
    Sample out{.tokens = answer, .targets = std::move(answer), .picture = std::move(picture)};
    out.tokens.insert(out.tokens.begin(), height);
    out.targets.push_back(height);
    return out;
  }
  float loss(const std::vector<Sample>& samples) const {
    tensor::Exec exec{.numerics = tensor::Numerics::kExact};
    const tensor::ExecScope scope(exec);
    attention::Hooks none(net_->hooks());
    return net_->loss_sum(samples, {none, nullptr, 7, nullptr}).data()[0];
  }
  std::unique_ptr<TaskNet> net_;
};

TEST_F(PointerNet, ReadsPointsAsASet) {
  const float there = loss({sample({0.1f, 0.9f, 0.5f, 0.2f, 0.8f, 0.7f}, {2, 0}, 3)});
  EXPECT_NEAR(loss({sample({0.5f, 0.2f, 0.8f, 0.7f, 0.1f, 0.9f}, {1, 2}, 3)}), there, 1e-5 * there);
  EXPECT_GT(std::abs(loss({sample({0.1f, 0.9f, 0.5f, 0.2f, 0.8f, 0.7f}, {0, 2}, 3)}) - there), 1e-4 * there);
}

TEST_F(PointerNet, DoesNotSeeRowsWithoutAPoint) {
  const std::vector<float> points = {0.1f, 0.9f, 0.5f, 0.2f, 0.8f, 0.7f}, others = {0.3f, 0.3f, 0.6f, 0.1f};
  const float alone = loss({sample(points, {2, 0}, 3)});
  EXPECT_EQ(loss({sample(points, {2, 0}, 5)}), alone);
  // Nor those of another sample.
  const float other = loss({sample(others, {1}, 2)});
  EXPECT_NEAR(loss({sample(points, {2, 0}, 5), sample(others, {1}, 2)}), alone + other, 1e-5 * (alone + other));
}

TEST_F(PointerNet, ChoosesAmongPointsAndTheEnd) {
  const std::vector<float> points = {0.1f, 0.9f, 0.5f, 0.2f, 0.8f, 0.7f};
  for (const int32_t height : {3, 5}) {
    double sum = 0;
    for (const int32_t choice : {0, 1, 2, height}) {
      Sample one = sample(points, {1}, height);  // at its second step
      one.targets = {kNoTarget, choice};
      sum += std::exp(-double{loss({one})});
    }
    EXPECT_NEAR(sum, 1, 1e-5);
  }
}

TEST_F(PointerNet, SaysWhatIsWrongWithASample) {
  const std::vector<float> points = {0.1f, 0.9f, 0.5f, 0.2f};
  EXPECT_EQ(net_->misfit(sample(points, {1, 0}, 4)), "");
  EXPECT_EQ(net_->misfit(sample({}, {}, 4)), "has no points");
  Sample wrong = sample(points, {1, 0}, 4);
  wrong.tokens[1] = 2;  // where there is room, and no point
  EXPECT_EQ(net_->misfit(wrong), "has tokens that are no places of points");
  wrong = sample(points, {1, 3}, 4);
  wrong.tokens[2] = 0;
  EXPECT_EQ(net_->misfit(wrong), "wants places where no points are");
  wrong = sample(points, {1, 0}, 4);
  std::fill(wrong.targets.begin(), wrong.targets.end(), kNoTarget);
  EXPECT_EQ(net_->misfit(wrong), "wants nothing");
}

}  // namespace pointer_test
}  // namespace fovea::train
