#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fovea/models/testing/tiny_model.h"

namespace fovea::models {
namespace {

using tensor::Tensor;

TEST(Llama, LogitsAreThoseOfTransformers) { TinyModel("tiny-llama").expect_golden_logits(); }

TEST(Llama, EveryWeightHasTheGradientOfTheLoss) { TinyModel("tiny-llama").expect_gradients_meet_finite_differences(); }

TEST(Llama, EveryHookFiresOnceInItsOrder) {
  TinyModel model("tiny-llama");
  tensor::Exec exec{.arena = nullptr, .numerics = tensor::Numerics::kExact};
  tensor::ExecScope scope(exec);
  attention::KvCache cache(attention::CacheShape::of(model.shape(), kernels::KvType::kF32));
  attention::Hooks hooks(model.shape().n_layers);
  std::vector<std::string> fired;
  ASSERT_TRUE(hooks.attach("*", [&](const std::string& name, Tensor&) { fired.push_back(name); }).has_value());
  model.logits(model.ids(), &cache, hooks);
  EXPECT_EQ(fired, attention::all_hook_names(model.shape().n_layers));
}

TEST(Llama, TheTapeSeesTheSameLogitsAsTheCache) {
  TinyModel model("tiny-llama");
  tensor::Exec exec{.arena = nullptr, .numerics = tensor::Numerics::kExact};
  tensor::ExecScope scope(exec);
  attention::Hooks hooks(model.shape().n_layers);
  const Tensor cached = model.logits(model.ids()), alone = model.logits(model.ids(), nullptr, hooks);
  for (int64_t i = 0; i < cached.elements(); ++i) {
    ASSERT_NEAR(alone.data()[i], cached.data()[i], 1e-4) << i;  // sums in another order
  }
}

}  // namespace
}  // namespace fovea::models
