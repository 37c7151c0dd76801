// Weights that a method owns: in the model's file under its name, with gradients, trained like any other.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "fovea/attention/testing/methods.h"
#include "fovea/base/file.h"
#include "fovea/engine/session.h"
#include "fovea/models/testing/model_recipe.h"
#include "fovea/models/testing/tiny_model.h"
#include "fovea/tensor/testing/gradient_check.h"

namespace fovea {
namespace method_weights_test {

using attention::Pipeline;
using ::testing::HasSubstr;

TEST(MethodWeights, HaveTheGradientOfTheLoss) {
  models::TinyModel model("tiny-llama");
  auto pipeline = Pipeline::parse("test-temperature", model.shape());
  ASSERT_TRUE(pipeline.has_value()) << pipeline.error().message;
  for (const tensor::Parameter& p : pipeline->methods()[0]->parameters()) {
    if (p.shape.size() == 2)
      *p.target = tensor::Weight::from(p.name, tensor::random_tensor({p.shape[1], p.shape[0]}, 3, 0.2));
  }
  model.expect_gradients_meet_finite_differences(16, &*pipeline);
}

TEST(MethodWeights, GatesBetweenTwoWaysOfAHeadHaveTheGradientOfTheLoss) {
  models::TinyModel model("tiny-llama");
  auto pipeline = Pipeline::parse("duo-attention:sink=1:recent=4:mix=true:start=0.6", model.shape());
  ASSERT_TRUE(pipeline.has_value()) << pipeline.error().message;
  model.expect_gradients_meet_finite_differences(24, &*pipeline);
}

TEST(MethodWeights, TrainWhileTheModelStaysWhatItIs) {
  models::TinyModel model("tiny-llama");
  auto pipeline = Pipeline::parse("test-temperature", model.shape());
  ASSERT_TRUE(pipeline.has_value()) << pipeline.error().message;
  const std::span<const int32_t> ids(model.ids().data(), 24);
  std::vector<int32_t> targets(ids.begin() + 1, ids.end());
  targets.push_back(-1);
  attention::Hooks hooks(model.family().hooks());
  std::vector<tensor::Tensor> trained;
  for (const tensor::Parameter& p : pipeline->methods()[0]->parameters()) trained.push_back(p.target->value);
  std::vector<double> losses;
  for (int step = 0; step <= 20; ++step) {
    tensor::Tape tape;
    tensor::Exec exec{.tape = &tape};
    tensor::ExecScope scope(exec);
    for (const tensor::Tensor& t : trained) tape.watch(t);
    const tensor::Tensor loss = cross_entropy(model.logits(ids, nullptr, hooks, &*pipeline), targets).mean();
    losses.push_back(loss.data()[0]);
    if (step == 20) break;
    tape.backward(loss);
    for (tensor::Tensor& t : trained) {
      const tensor::Tensor& gradient = tape.grad(t);
      for (int64_t i = 0; i < t.elements(); ++i) t.data()[i] -= 0.2f * gradient.data()[i];
    }
  }
  EXPECT_LT(losses.back(), losses.front() - 0.01) << losses.front();
  tensor::Exec exec{.numerics = tensor::Numerics::kExact};
  tensor::ExecScope scope(exec);  // and the trained weights serve inference
  EXPECT_NEAR(cross_entropy(model.logits(ids, &*pipeline), targets).mean().data()[0], losses.back(), 1e-4);
}

// A small model with tensors of test-temperature, element i of the file's data i % 7 / 10.
Result<std::unique_ptr<engine::Session>> session_with(const std::map<std::string, std::vector<uint64_t>>& tensors,
                                                      const std::string& attention) {
  models::ModelRecipe recipe;
  recipe.set("llama.embedding_length", uint32_t{16});  // heads of 8
  recipe.tensors = {
      {"token_embd.weight", {16, 4}},         {"output_norm.weight", {16}},      {"blk.0.attn_norm.weight", {16}},
      {"blk.0.attn_q.weight", {16, 16}},      {"blk.0.attn_k.weight", {16, 8}},  {"blk.0.attn_v.weight", {16, 8}},
      {"blk.0.attn_output.weight", {16, 16}}, {"blk.0.ffn_norm.weight", {16}},   {"blk.0.ffn_gate.weight", {16, 4}},
      {"blk.0.ffn_up.weight", {16, 4}},       {"blk.0.ffn_down.weight", {4, 16}}};
  recipe.tensors.insert(tensors.begin(), tensors.end());
  const std::string path = ::testing::TempDir() + "method-weights-" + std::to_string(getpid()) + ".gguf";
  const std::string bytes = recipe.build([](formats::GgufWriter& w) {
    for (size_t i = 0; 4 * i + 4 <= w.data().size(); ++i) {
      const float x = static_cast<float>(i % 7) / 10;
      std::memcpy(w.data().data() + 4 * i, &x, 4);
    }
  });
  EXPECT_TRUE(write_file_atomic(path, bytes).has_value());
  const auto model = engine::Model::load(path);
  std::filesystem::remove(path);  // it is mapped
  if (!model) return model.error();
  engine::SessionOptions options{.numerics = kernels::Numerics::kExact};
  options.attention = attention;
  return engine::Session::create(*model, options);
}

std::vector<float> bias_of(const engine::Session& session) {
  const auto table = session.pipeline().methods().at(0)->parameters();
  const auto values = table.at(1).target->value.values();
  return {values.begin(), values.end()};
}

TEST(MethodWeights, ComeFromTheModelsFileUnderTheMethodsName) {
  const auto fresh = session_with({}, "test-temperature");
  ASSERT_TRUE(fresh.has_value()) << fresh.error().message;
  const std::map<std::string, std::vector<uint64_t>> both = {{"test-temperature.layer.0.bias", {2}},
                                                             {"test-temperature.layer.0.weight", {16, 2}}};
  const auto saved = session_with(both, "test-temperature");
  ASSERT_TRUE(saved.has_value()) << saved.error().message;
  const auto dense = session_with(both, "dense");
  EXPECT_TRUE(dense.has_value()) << dense.error().message;
  EXPECT_EQ(bias_of(**fresh)[0], bias_of(**fresh)[1]);
  EXPECT_NE(bias_of(**saved), bias_of(**fresh));
  // Neighbours in the file.
  const double step = bias_of(**saved)[1] - bias_of(**saved)[0];
  EXPECT_TRUE(std::abs(step - 0.1) < 1e-6 || std::abs(step + 0.6) < 1e-6) << step;
}

TEST(MethodWeights, ThatDoNotFitAreRefusedByName) {
  const auto wide = session_with({{"test-temperature.layer.0.bias", {3}}}, "test-temperature");
  ASSERT_FALSE(wide.has_value());
  EXPECT_THAT(wide.error().message, HasSubstr("test-temperature.layer.0.bias"));
  const auto part = session_with({{"test-temperature.layer.0.bias", {2}}}, "test-temperature");
  ASSERT_FALSE(part.has_value());
  EXPECT_THAT(part.error().message, HasSubstr("but not test-temperature.layer.0.weight"));
  const auto stray = session_with({{"test-temperature.layer.7.bias", {2}}}, "test-temperature");
  ASSERT_FALSE(stray.has_value());
  EXPECT_THAT(stray.error().message, HasSubstr("test-temperature.layer.7.bias"));
  const auto of_nobody = session_with({{"temperature.bias", {2}}}, "dense");
  ASSERT_FALSE(of_nobody.has_value());
  EXPECT_THAT(of_nobody.error().message, HasSubstr("temperature.bias"));
}

}  // namespace method_weights_test
}  // namespace fovea
