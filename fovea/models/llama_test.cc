#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "fovea/models/testing/tiny_model.h"

namespace fovea::models {
namespace llama_test {

using tensor::Tensor;

TEST(Llama, LogitsAreThoseOfTransformers) { TinyModel("tiny-llama").expect_golden_logits(); }

// Folders call it so; in GGUF files it is a llama.
TEST(Mixtral, LogitsAreThoseOfTransformers) { TinyModel("mixtral").expect_golden_logits(); }

TEST(Llama, EveryWeightHasTheGradientOfTheLoss) { TinyModel("tiny-llama").expect_gradients_meet_finite_differences(); }

TEST(Llama, EveryHookFiresOnceInItsOrder) {
  TinyModel model("tiny-llama");
  tensor::Exec exec{.arena = nullptr, .numerics = tensor::Numerics::kExact};
  tensor::ExecScope scope(exec);
  attention::KvCache cache(attention::CacheShape::of(model.shape(), kernels::KvType::kF32));
  attention::Hooks hooks(model.family().hooks());
  std::vector<std::string> fired;
  ASSERT_TRUE(hooks.attach("*", [&](const std::string& name, Tensor&) { fired.push_back(name); }).has_value());
  model.logits(model.ids(), &cache, hooks);
  EXPECT_EQ(fired, model.family().hooks().names());
}

TEST(Llama, TheTapeSeesTheSameLogitsAsTheCache) {
  TinyModel model("tiny-llama");
  tensor::Exec exec{.arena = nullptr, .numerics = tensor::Numerics::kExact};
  tensor::ExecScope scope(exec);
  attention::Hooks hooks(model.family().hooks());
  const Tensor cached = model.logits(model.ids()), alone = model.logits(model.ids(), nullptr, hooks);
  for (int64_t i = 0; i < cached.elements(); ++i) {
    ASSERT_NEAR(alone.data()[i], cached.data()[i], 1e-4) << i;  // sums in another order
  }
}

class HookGradients : public ::testing::Test {
 protected:
  using Gradients = std::vector<std::vector<float>>;
  Gradients gradients() {
    tensor::Arena arena;
    tensor::Tape tape;
    for (const auto& named : parameters_) tape.watch(named.second);
    tensor::Exec taped{.arena = &arena, .tape = &tape};
    tensor::ExecScope scope(taped);
    tape.backward(model_.loss(hooks_));
    Gradients all;
    for (const auto& named : parameters_) {
      const Tensor& g = tape.grad(named.second);
      all.emplace_back(g.values().begin(), g.values().end());
    }
    return all;
  }
  static double dot(const std::vector<float>& a, const std::vector<float>& b) {
    return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
  }
  // On the tape attention is one op: no scores and no pattern.
  static bool on_tape(const std::string& name) { return !name.ends_with("scores") && !name.ends_with("pattern"); }

  TinyModel model_{"tiny-llama"};
  std::vector<std::pair<std::string, Tensor>> parameters_ = model_.trainable();
  attention::Hooks hooks_{model_.family().hooks()};
};

TEST_F(HookGradients, AHookThatLooksLeavesThem) {
  const Gradients plain = gradients();
  for (const std::string& name : hooks_.model().names()) {
    if (!on_tape(name)) continue;
    const auto scope = hooks_.scoped(name, [](const std::string&, Tensor&) {});
    const Gradients seen = gradients();
    for (size_t p = 0; p < plain.size(); ++p) {
      const double norm = std::sqrt(dot(plain[p], plain[p]));
      for (size_t i = 0; i < plain[p].size(); ++i)  // where a hook looks, ops are not fused
        ASSERT_NEAR(seen[p][i], plain[p][i], 1e-5 * norm) << name << ": " << parameters_[p].first << ", element " << i;
    }
  }
}

// Along the gradient without a hook, so that a part that is cut off shows.
TEST_F(HookGradients, AHookThatReplacesHasThoseOfItsProgram) {
  const Gradients plain = gradients();
  tensor::Arena arena;
  tensor::Exec exec{.arena = &arena, .numerics = tensor::Numerics::kExact};
  tensor::ExecScope scope(exec);
  for (const std::string& name : hooks_.model().names()) {
    if (!on_tape(name)) continue;
    const auto attached = hooks_.scoped(name, [](const std::string&, Tensor& x) { x = tensor::affine(x, 1.01f); });
    const Gradients found = gradients();
    for (size_t p = 0; p < plain.size(); ++p) {
      Tensor& weight = parameters_[p].second;
      const std::vector<float> before(weight.values().begin(), weight.values().end());
      const double norm = std::sqrt(dot(plain[p], plain[p])),
                   step = 0.002 * std::max(std::sqrt(dot(before, before)), 1.0);
      const auto at = [&](double shift) {
        for (size_t i = 0; i < before.size(); ++i)
          weight.data()[i] = static_cast<float>(before[i] + shift * plain[p][i] / norm);
        return static_cast<double>(model_.loss(hooks_).data()[0]);
      };
      const double slope = (at(step) - at(-step)) / (2 * step);
      std::copy(before.begin(), before.end(), weight.data());
      ASSERT_NEAR(dot(found[p], plain[p]) / norm, slope, 0.02 * norm + 1e-6 / step)
          << name << ": " << parameters_[p].first;
    }
  }
}

}  // namespace llama_test
}  // namespace fovea::models
