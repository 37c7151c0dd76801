// Every net of this folder: it learns, its gradients meet finite differences, its hooks fire and methods act on it.
#include "fovea/train/nets/task_net.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "fovea/base/random.h"
#include "fovea/base/threads.h"
#include "fovea/tensor/exec.h"
#include "fovea/tensor/tape.h"
#include "fovea/train/trainer.h"

namespace fovea::train {
namespace task_net_test {

using tensor::Tensor;
using ::testing::HasSubstr;
using Json = nlohmann::ordered_json;

struct Case {
  Json net, data;         // no data: numbers whose order is to be found
  std::string kind = {};  // of net; empty: as the case
};
const std::map<std::string, Case>& cases() {
  static const Json scenes = {{"generator", "scenes"}, {"size", 16}};
  static const Json copy = {{"generator", "copy"}};
  static const Json mixer = {{"vocab_size", 8}, {"d_model", 12}, {"n_layers", 2}};
  static const Json patches = {{"size", 16}, {"patch", 4}, {"d_model", 16}, {"n_layers", 2}, {"n_heads", 2}};
  const auto with = [](Json net, const Json& more) {
    net.update(more);
    return net;
  };
  static const std::map<std::string, Case> all = {
      {"vit", {with(patches, {{"classes", 6}}), scenes}},
      {"dit", {with(patches, {{"classes", 6}}), scenes}},
      {"two-tower", {with(patches, {{"vocab_size", 17}, {"text", {{"d_model", 12}, {"n_layers", 1}}}}), scenes}},
      {"vlm", {with(patches, {{"vocab_size", 17}, {"vision", {{"d_model", 12}, {"n_layers", 1}}}}), scenes}},
      {"vlm_linear", {with(patches, {{"vocab_size", 17}, {"projector", "linear"}}), scenes, "vlm"}},
      {"pointer", {{{"width", 1}, {"d_model", 16}, {"n_layers", 1}, {"n_heads", 2}, {"decoder_layers", 2}}, {}}},
      {"cnn", {{{"size", 16}, {"widths", {8, 12}}, {"classes", 6}}, scenes}},
      {"unet", {{{"size", 16}, {"width", 8}, {"n_heads", 2}, {"vocab_size", 17}}, scenes}},
      {"lstm", {{{"vocab_size", 8}, {"d_model", 12}, {"n_layers", 2}}, copy}},
      {"gru", {{{"vocab_size", 8}, {"d_model", 12}}, copy}},
      {"mixer", {with(mixer, {{"n_heads", 2}}), copy}},
      {"mixer_decay", {with(mixer, {{"mixer", "decay"}}), copy, "mixer"}},
      {"mixer_conv", {with(mixer, {{"mixer", "conv"}}), copy, "mixer"}}};
  return all;
}

std::unique_ptr<TaskNet> make(const std::string& name, Json net, std::string* error = nullptr) {
  Settings settings(net, "f.json");
  auto made = make_part<TaskNet>(settings, "net", name, {.seed = 3});
  const Status end = settings.finish();
  if (error) *error = end ? "" : end.error().message;
  return made;
}

// Numbers with their places from the least to the greatest; the last sample has room for one more.
std::vector<Sample> rankings(int n) {
  std::vector<Sample> samples;
  Rng rng(5);
  for (int i = 0; i < n; ++i) {
    auto picture = std::make_shared<Picture>();
    picture->channels = picture->width = 1, picture->height = i + 1 < n ? 4 : 5;
    std::vector<int32_t> places = {0, 1, 2, 3};
    for (int k = 0; k < 4; ++k) picture->pixels.push_back(static_cast<float>(rng.uniform()));
    std::sort(places.begin(), places.end(), [&](int32_t a, int32_t b) {
      return picture->pixels[static_cast<size_t>(a)] < picture->pixels[static_cast<size_t>(b)];
    });
    const auto end = static_cast<int32_t>(picture->height);
    picture->mask.assign(4, 1);
    picture->pixels.resize(static_cast<size_t>(end)), picture->mask.resize(static_cast<size_t>(end));
    Sample sample{.tokens = {end}, .targets = places, .picture = picture};
    sample.tokens.insert(sample.tokens.end(), places.begin(), places.end());
    sample.targets.push_back(end);
    samples.push_back(std::move(sample));
  }
  return samples;
}

std::vector<Sample> samples_of(const TaskNet& net, const Json& data, int n) {
  if (data.is_null()) return rankings(n);
  Settings settings(data, "data");
  const TaskNet::Wants wants = net.wants();
  const auto made =
      make_data(settings, {.vocab_size = wants.vocab_size, .context = 8, .seed = 5, .n_labels = wants.n_labels});
  EXPECT_TRUE(settings.finish().has_value()) << settings.finish().error().message;
  std::vector<Sample> samples;
  for (int i = 0; i < n; ++i) samples.push_back(made->sample(static_cast<uint64_t>(i)));
  return samples;
}

float loss_of(const TaskNet& net, const std::vector<Sample>& samples, attention::Hooks& hooks,
              attention::Pipeline* pipeline = nullptr, attention::KvCache* cache = nullptr) {
  tensor::Exec exec{.numerics = tensor::Numerics::kExact};
  const tensor::ExecScope scope(exec);
  return net.loss_sum(samples, {hooks, pipeline, 7, nullptr, cache}).data()[0];
}

// All parameters' gradients of the loss.
std::map<std::string, Tensor> gradients_of(const TaskNet& net, const std::vector<Sample>& samples) {
  tensor::Tape tape;
  tensor::Exec exec{.tape = &tape};
  const tensor::ExecScope scope(exec);
  for (const Param& param : net.params()) tape.watch(param.value);
  attention::Hooks none(net.hooks());
  tape.backward(net.loss_sum(samples, {none, nullptr, 7, nullptr}));
  std::map<std::string, Tensor> out;
  for (const Param& param : net.params()) out[param.name] = tape.grad(param.value);
  return out;
}

class EveryNet : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    const auto found = cases().find(GetParam());
    ASSERT_NE(found, cases().end());
    std::string error;
    net_ = make(found->second.kind.empty() ? GetParam() : found->second.kind, found->second.net, &error);
    ASSERT_EQ(error, "");
    samples_ = samples_of(*net_, found->second.data, 4);
    // What is 0 at first may shut off all behind it, as the gates of a diffusion transformer do.
    Rng rng(1);
    for (const Param& param : net_->params()) {
      Tensor value = param.value;
      if (sum_of_squares(value) > 0) continue;
      for (float& x : std::span(value.data(), value.values().size())) x = 0.1f * static_cast<float>(rng.normal());
    }
  }
  std::unique_ptr<TaskNet> net_;
  std::vector<Sample> samples_;
};

// Along the gradient of each parameter, the loss falls as fast as the gradient says.
TEST_P(EveryNet, GradientsMeetFiniteDifferences) {
  attention::Hooks none(net_->hooks());
  const auto gradients = gradients_of(*net_, samples_);
  double most = 0;
  for (const auto& one : gradients) most = std::max(most, std::sqrt(sum_of_squares(one.second)));
  ASSERT_GT(most, 0);
  for (const Param& param : net_->params()) {
    const Tensor& gradient = gradients.at(param.name);
    const double norm = std::sqrt(sum_of_squares(gradient));
    if (norm < 1e-2 * most) continue;  // lost in the rounding of the loss
    const std::vector<float> before(param.value.values().begin(), param.value.values().end());
    Tensor value = param.value;
    const double step = 2e-2 / norm * std::min(1.0, 1 / norm + 0.1);
    const auto moved = [&](double by) {
      for (size_t i = 0; i < before.size(); ++i)
        value.data()[i] = static_cast<float>(before[i] + by * step * gradient.data()[i]);
      return double{loss_of(*net_, samples_, none)};
    };
    const double slope = (moved(-2) - 8 * moved(-1) + 8 * moved(1) - moved(2)) / (12 * step);
    std::copy(before.begin(), before.end(), value.data());
    // A kink of a ReLU or a pool may lie on the way.
    EXPECT_NEAR(slope, norm * norm, 0.03 * norm * norm) << param.name;
  }
}

TEST_P(EveryNet, LearnsAFewSamplesByHeart) {
  Settings adam(Json{{"lr", 0.01}}, "adam"), plain(Json::object(), "none");
  Trainer trainer(net_->params(), make_part<Optimizer>(adam, "name", "adam"),
                  make_part<Schedule>(plain, "name", "constant", {.steps = 100}), {});
  attention::Hooks none(net_->hooks());
  std::vector<double> losses;
  for (int step = 0; step < 60; ++step)
    losses.push_back(trainer.step(1, [&](int) { return net_->loss_sum(samples_, {none, nullptr, 7, nullptr}); }).loss);
  EXPECT_LT(losses.back(), 0.7 * losses.front());
}

TEST_P(EveryNet, HasTheSameBitsOnAnyThreads) {
  set_threads(1);
  const auto one = gradients_of(*net_, samples_);
  set_threads(3);
  const auto three = gradients_of(*net_, samples_);
  set_threads(0);
  for (const auto& [name, gradient] : one) {
    const auto a = gradient.values(), b = three.at(name).values();
    EXPECT_TRUE(std::equal(a.begin(), a.end(), b.begin())) << name;
  }
}

TEST_P(EveryNet, FiresEveryHookThatItNames) {
  const auto has_rows = [](const std::string& name) {
    return name.ends_with("hook_attn_scores") || name.ends_with("hook_pattern");
  };
  std::map<std::string, int> fired;
  const auto attach = [&](attention::Hooks& hooks, bool rows) {
    for (const std::string& name : hooks.model().names()) {
      if (!rows && has_rows(name)) continue;
      ASSERT_TRUE(hooks.attach(name, [&](const std::string& site, Tensor&) { ++fired[site]; }).has_value()) << name;
    }
  };
  attention::Hooks hooks(net_->hooks()), none(net_->hooks());
  attach(hooks, false);
  EXPECT_EQ(loss_of(*net_, samples_, hooks), loss_of(*net_, samples_, none));
  for (const std::string& name : hooks.model().names()) EXPECT_EQ(fired[name] > 0, !has_rows(name)) << name;
  EXPECT_FALSE(fired.empty());
  const TaskNet::Wants wants = net_->wants();  // what a net with classes makes of a sample is there to be read
  if (wants.n_labels > 0 && GetParam().substr(0, 3) != "dit") {
    EXPECT_EQ(fired["unembed.hook_out"], 1);
  }
  if (net_->shape().n_layers == 0) return;
  for (int l = 0; l < net_->shape().n_layers; ++l) {
    if (net_->shape().site(l).k_dim % 8 != 0) return;  // pages hold keys in steps of 8
  }
  // With a cache, as a capture has it, rows too; keys from elsewhere go with one sample.
  fired.clear();
  const std::vector<Sample> one = {samples_[0]};
  attention::Hooks all(net_->hooks());
  attach(all, true);
  attention::KvCache cache(attention::CacheShape::of(net_->shape(), kernels::KvType::kF32));
  const float loss = loss_of(*net_, one, none);
  EXPECT_NEAR(loss_of(*net_, one, all, nullptr, &cache), loss, 1e-4 * (1 + std::abs(loss)));
  for (const std::string& name : all.model().names()) EXPECT_GT(fired[name], 0) << name;
}

TEST_P(EveryNet, MethodsActOnItsAttention) {
  if (net_->shape().n_layers == 0) return;
  attention::Hooks none(net_->hooks());
  const float dense = loss_of(*net_, samples_, none);
  auto same = attention::Pipeline::parse("scale:heads=0.1:value=1", net_->shape());
  auto gone = attention::Pipeline::parse("scale:heads=0.1:value=0", net_->shape());
  ASSERT_TRUE(same.has_value() && gone.has_value());
  EXPECT_NEAR(loss_of(*net_, samples_, none, &*same), dense, 1e-4 * std::abs(dense));
  EXPECT_NE(loss_of(*net_, samples_, none, &*gone), dense);
}

std::vector<std::string> case_names() {
  std::vector<std::string> names;
  for (const auto& one : cases()) names.push_back(one.first);
  return names;
}
INSTANTIATE_TEST_SUITE_P(Nets, EveryNet, ::testing::ValuesIn(case_names()), [](const auto& one) {
  std::string name = one.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

TEST(TaskNets, HaveACaseEach) {
  for (const std::string& name : part_names<TaskNet>()) EXPECT_TRUE(cases().contains(name)) << name;
}

TEST(TaskNets, RefuseSizesThatDoNotFit) {
  const std::tuple<const char*, Json, const char*> wrong[] = {
      {"vit", {{"patch", 5}}, "patch does not divide size"},
      {"vit", {{"n_heads", 3}}, "n_heads does not divide d_model"},
      {"dit", {{"d_model", 18}}, "d_model is no multiple of 4"},
      {"dit", {{"class_dropout", 1.5}}, "class_dropout is 1.5"},
      {"dit", {{"classes", 0}, {"class_dropout", 0.1}}, "class_dropout"},
      {"cnn", {{"widths", {8, 8, 8, 8, 8}}}, "widths has"},
      {"unet", {{"width", 9}}, "width is odd"},
      {"unet", {{"factors", {1, 1, 1, 1, 1, 1}}}, "factors has more levels"},
      {"two-tower", {{"text", {{"d_model", 18}, {"n_heads", 4}}}}, "text.n_heads does not divide d_model"},
      {"two-tower", {{"text", {{"d_model", 6}}}}, "text.n_heads leaves heads of an odd width"},
      {"two-tower", {{"temperature", 0}}, "temperature is 0"},
      {"vlm", {{"projector", "resampler"}}, "mlp, linear"},
      {"vlm", {{"vision", {{"select_layer", -2}}}}, "vision.select_layer is no setting here"},
      {"pointer", {{"d_model", 6}}, "n_heads leaves heads of an odd width"},
      {"mixer", {{"n_heads", 5}}, "n_heads does not divide d_model"},
      {"mixer", {{"mixer", "decay"}}, "n_heads is no setting here"},
      {"mixer", {{"mixer", "sum"}}, "linear-attention, decay, conv"},
      {"lstm", {{"d_modl", 3}}, "d_modl"}};
  for (const auto& [name, change, message] : wrong) {
    Json net = cases().at(name).net;
    net.update(change);
    std::string error;
    make(name, net, &error);
    EXPECT_THAT(error, HasSubstr(message));
  }
}

}  // namespace task_net_test
}  // namespace fovea::train
