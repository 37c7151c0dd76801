#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fovea/models/testing/tiny_model.h"

namespace fovea::models {
namespace qwen2_test {

using tensor::Tensor;

TEST(Qwen2, LogitsAreThoseOfTransformers) { TinyModel("tiny-qwen2").expect_golden_logits(); }

TEST(Qwen2, EveryWeightHasTheGradientOfTheLoss) { TinyModel("tiny-qwen2").expect_gradients_meet_finite_differences(); }

TEST(Qwen2, BiasesShiftQueriesKeysAndValues) {
  TinyModel model("tiny-qwen2");
  tensor::Exec exec{.arena = nullptr, .numerics = tensor::Numerics::kExact};
  tensor::ExecScope scope(exec);
  const std::span<const int32_t> one(model.ids().data(), 1);
  const auto values = [&](const char* hook) {
    attention::KvCache cache(attention::CacheShape::of(model.shape(), kernels::KvType::kF32));
    attention::Hooks hooks(model.family().hooks());
    std::vector<float> seen;
    EXPECT_TRUE(
        hooks.attach(hook, [&](const std::string&, Tensor& x) { seen.assign(x.values().begin(), x.values().end()); })
            .has_value());
    model.logits(one, &cache, hooks);
    return seen;
  };
  const std::pair<const char*, const char*> pairs[] = {{"blocks.0.attn.hook_q", "blk.0.attn_q.bias"},
                                                       {"blocks.0.attn.hook_k", "blk.0.attn_k.bias"},
                                                       {"blocks.0.attn.hook_v", "blk.0.attn_v.bias"}};
  for (const auto& [hook, name] : pairs) {
    const std::vector<float> with = values(hook);
    std::vector<float> bias;
    for (const tensor::Parameter& spec : model.family().weights()) {
      if (spec.name != name) continue;
      const Tensor b = tensor::weight_values(*spec.target);
      bias.assign(b.values().begin(), b.values().end());
      *spec.target = tensor::Weight();
    }
    const std::vector<float> without = values(hook);
    ASSERT_EQ(with.size(), bias.size()) << name;
    for (size_t i = 0; i < with.size(); ++i) ASSERT_NEAR(with[i] - without[i], bias[i], 1e-5) << name << " " << i;
  }
}

}  // namespace qwen2_test
}  // namespace fovea::models
