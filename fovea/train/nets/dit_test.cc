// A diffusion transformer changes nothing at first, and reads classes but for those that are left out.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "fovea/base/random.h"
#include "fovea/tensor/exec.h"
#include "fovea/train/nets/noise.h"
#include "fovea/train/nets/task_net.h"

namespace fovea::train {
namespace dit_test {

using tensor::Tensor;
using Json = nlohmann::ordered_json;

std::unique_ptr<TaskNet> make(const Json& more) {
  Json net = {{"size", 8}, {"patch", 4}, {"d_model", 16}, {"n_layers", 2}, {"n_heads", 2}, {"classes", 6}};
  net.update(more);
  Settings s(net, "f.json");
  auto made = make_part<TaskNet>(s, "net", "dit", {.seed = 3});
  EXPECT_TRUE(s.finish().has_value()) << s.finish().error().message;
  return made;
}

Sample picture(int32_t label) {
  auto picture = std::make_shared<Picture>();
  picture->channels = 3, picture->height = picture->width = 8, picture->label = label;
  for (int i = 0; i < 3 * 64; ++i) picture->pixels.push_back(0.01f * static_cast<float>(i % 70));
  Sample sample;
  sample.picture = std::move(picture);
  return sample;
}

float loss(const TaskNet& net, const std::vector<Sample>& samples, uint64_t key = 7) {
  tensor::Exec exec{.numerics = tensor::Numerics::kExact};
  const tensor::ExecScope scope(exec);
  attention::Hooks none(net.hooks());
  return net.loss_sum(samples, {none, nullptr, key, nullptr}).data()[0];
}

// The gates, and what is 0 besides them.
void open(const TaskNet& net) {
  Rng rng(1);
  for (const Param& param : net.params()) {
    Tensor value = param.value;
    for (int64_t i = 0; i < value.elements(); ++i) value.data()[i] += 0.1f * static_cast<float>(rng.normal());
  }
}

TEST(Dit, FindsNoNoiseAtFirst) {
  const auto net = make(Json::object());
  const std::vector<Sample> samples = {picture(0), picture(4)};
  const Tensor noise = NoiseSchedule()(samples, 7).noise;
  double all = 0;
  for (const float x : noise.values()) all += double{x} * double{x};
  EXPECT_NEAR(loss(*net, samples), all, 1e-5 * all);
  // Nor does a block change what comes in.
  attention::Hooks hooks(net->hooks());
  std::vector<float> first, last;
  for (const auto& [name, values] : {std::pair{"blocks.0.hook_resid_pre", &first}, {"blocks.1.hook_resid_post", &last}})
    ASSERT_TRUE(hooks
                    .attach(name, [to = values](const std::string&,
                                                Tensor& x) { to->assign(x.values().begin(), x.values().end()); })
                    .has_value());
  tensor::Exec exec;
  const tensor::ExecScope scope(exec);
  (void)net->loss_sum(samples, {hooks, nullptr, 7, nullptr});
  EXPECT_FALSE(first.empty());
  EXPECT_EQ(first, last);
}

TEST(Dit, ReadsTheClassButForTheShareThatIsLeftOut) {
  for (const double share : {0.0, 1.0}) {
    const auto net = make({{"class_dropout", share}});
    open(*net);
    EXPECT_EQ(loss(*net, {picture(1)}) == loss(*net, {picture(2)}), share == 1) << share;
  }
  const auto some = make({{"class_dropout", 0.25}});
  open(*some);
  int same = 0;
  for (uint64_t key = 0; key < 200; ++key) same += loss(*some, {picture(1)}, key) == loss(*some, {picture(2)}, key);
  EXPECT_NEAR(same, 50, 25);
}

TEST(Dit, ReadsNoLabelsWithoutClasses) {
  const auto net = make({{"classes", 0}});
  EXPECT_EQ(net->wants().n_labels, 0);
  open(*net);
  EXPECT_EQ(loss(*net, {picture(-1)}), loss(*net, {picture(5)}));
}

}  // namespace dit_test
}  // namespace fovea::train
