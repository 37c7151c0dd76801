#include "fovea/models/support/blocks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "fovea/tensor/exec.h"
#include "fovea/tensor/ops/ops.h"
#include "fovea/tensor/tape.h"

namespace fovea::models {
namespace blocks_test {

using attention::Hooks;
using attention::kNoLayer;
using attention::Site;
using tensor::Shape;
using tensor::Tensor;
using tensor::Weight;
using ::testing::ElementsAre;
using ::testing::FloatNear;
using ::testing::Pointwise;

Tensor waves(const Shape& shape, float phase) {
  Tensor t = Tensor::empty(shape);
  for (int64_t i = 0; i < t.elements(); ++i) t.data()[i] = std::sin(phase + 0.7f * static_cast<float>(i));
  return t;
}

attention::HookMap one_block() { return attention::HookMap::decoder({.n_layers = 1, .n_heads = 1, .n_kv_heads = 1}); }

std::vector<float> values(const Tensor& t) { return {t.values().begin(), t.values().end()}; }

TEST(Branch, LookingOnTheTapeLeavesTheGradient) {
  tensor::Tape tape;
  tensor::Exec exec{.tape = &tape};
  tensor::ExecScope scope(exec);
  const Tensor x = waves({2}, 0.4f);
  tape.watch(x);
  Hooks hooks(one_block());
  ASSERT_TRUE(hooks.attach("blocks.0.hook_attn_in", [](const std::string&, Tensor&) {}).has_value());
  tape.backward(branch(x, hooks, Site::kAttnIn, 0), Tensor::from({2}, std::vector<float>{1, 2}));
  EXPECT_EQ(tape.grad(x).data()[1], 2.0f);
}

TEST(Norm, LookingAtItsPartsChangesNothing) {
  const Tensor x = waves({3, 16}, 0.1f);
  const Weight w = Weight::from("w", waves({16}, 2.0f));
  Hooks none(one_block()), all(one_block());
  std::vector<std::string> fired;
  ASSERT_TRUE(all.attach("blocks.0.ln1.*", [&](const std::string& name,
                                               Tensor& t) { fired.push_back(name + " " + t.shape().to_string()); })
                  .has_value());
  const Tensor plain = norm(x, {w, 1e-5f}, none, 0, Site::kLn1Scale, Site::kLn1Normalized);
  const Tensor watched = norm(x, {w, 1e-5f}, all, 0, Site::kLn1Scale, Site::kLn1Normalized);
  EXPECT_EQ(values(watched), values(plain));
  EXPECT_THAT(fired, ElementsAre("blocks.0.ln1.hook_scale [3, 1]", "blocks.0.ln1.hook_normalized [3, 16]"));
}

TEST(Norm, AReplacedScaleDividesTheRow) {
  const Tensor x = waves({1, 4}, 0.3f);
  Tensor ones = Tensor::empty({4});
  std::fill_n(ones.data(), 4, 1.0f);
  Hooks hooks(one_block());
  ASSERT_TRUE(
      hooks.attach("blocks.0.ln2.hook_scale", [](const std::string&, Tensor& s) { s.data()[0] = 2.0f; }).has_value());
  const Weight ones_weight = Weight::from("w", ones);
  const Tensor y = norm(x, {ones_weight, 1e-5f}, hooks, 0, Site::kLn2Scale, Site::kLn2Normalized);
  for (int i = 0; i < 4; ++i) EXPECT_FLOAT_EQ(y.data()[i], x.data()[i] / 2.0f);
}

TEST(ProjectHeads, ResultHoldsEveryHeadsPartAndLookingChangesNothing) {
  const int64_t n = 2, n_heads = 3, head_dim = 8, d_model = 5;
  const Tensor z = waves({n, n_heads, head_dim}, 1.0f), w = waves({d_model, n_heads * head_dim}, 0.0f);
  const Weight w_o = Weight::from("w_o", w);
  Hooks none(one_block()), hooks(one_block());
  std::vector<float> result;
  ASSERT_TRUE(hooks
                  .attach("*.hook_result",
                          [&](const std::string&, Tensor& r) {
                            EXPECT_EQ(r.shape(), (Shape{n, n_heads, d_model}));
                            result = values(r);
                          })
                  .has_value());
  const Tensor plain = project_heads(z, {w_o, kNoWeight}, none, 0),
               watched = project_heads(z, {w_o, kNoWeight}, hooks, 0);
  EXPECT_EQ(values(watched), values(plain));
  ASSERT_EQ(result.size(), static_cast<size_t>(n * n_heads * d_model));
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t h = 0; h < n_heads; ++h) {
      for (int64_t c = 0; c < d_model; ++c) {
        double sum = 0;
        for (int64_t d = 0; d < head_dim; ++d) {
          sum += static_cast<double>(z.data()[(i * n_heads + h) * head_dim + d]) *
                 w.data()[c * n_heads * head_dim + h * head_dim + d];
        }
        // float32 sums (int8 activations would be off by a percent: this weight is float32).
        EXPECT_NEAR(result[static_cast<size_t>((i * n_heads + h) * d_model + c)], sum, 1e-5);
      }
    }
  }
}

TEST(ProjectHeads, AChangedHeadChangesTheSumByItsPart) {
  const Tensor z = waves({1, 2, 8}, 1.0f);
  const Weight w_o = Weight::from("w_o", waves({4, 16}, 0.0f));
  Hooks none(one_block()), hooks(one_block());
  std::vector<float> other;
  ASSERT_TRUE(hooks
                  .attach("*.hook_result",
                          [&](const std::string&, Tensor& r) {
                            other.assign(r.data() + 4, r.data() + 8);
                            std::fill_n(r.data(), 4, 0.0f);  // head 0
                          })
                  .has_value());
  const std::vector<float> changed = values(project_heads(z, {w_o, kNoWeight}, hooks, 0));
  EXPECT_THAT(changed, Pointwise(FloatNear(1e-6f), other));
  EXPECT_NE(values(project_heads(z, {w_o, kNoWeight}, none, 0)), other);
}

TEST(Unembed, GivesTheWantedRowsOnly) {
  const Tensor x = waves({4, 8}, 0.0f);
  const Weight final_norm = Weight::from("norm", waves({8}, 1.0f)), head = Weight::from("head", waves({6, 8}, 2.0f));
  Hooks hooks(one_block());
  attention::Batch batch;
  const std::vector<int32_t> tokens = {1, 2, 3, 4};
  batch.add(tokens, 0, 0);
  EXPECT_FALSE(unembed(x, batch, {.norm = {final_norm, 1e-5f}, .head = {head, kNoWeight}}, hooks).defined());
  batch.logit_rows = {0, 1, 2, 3};
  const Tensor all = unembed(x, batch, {.norm = {final_norm, 1e-5f}, .head = {head, kNoWeight}}, hooks);
  EXPECT_EQ(all.shape(), (Shape{4, 6}));
  batch.logit_rows = {1, 3};
  const Tensor two = unembed(x, batch, {.norm = {final_norm, 1e-5f}, .head = {head, kNoWeight}}, hooks);
  EXPECT_EQ(two.shape(), (Shape{2, 6}));
  EXPECT_TRUE(std::equal(two.data(), two.data() + 6, all.data() + 6));
  EXPECT_TRUE(std::equal(two.data() + 6, two.data() + 12, all.data() + 18));
}

}  // namespace blocks_test
}  // namespace fovea::models
