// Keys of experts (row C6 of the catalogue of bad inputs), their tensors, and the hooks of a mixture.
#include "fovea/models/support/experts.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <optional>
#include <set>

#include "fovea/base/check.h"
#include "fovea/formats/gguf.h"
#include "fovea/models/support/weights.h"
#include "fovea/models/testing/model_recipe.h"
#include "fovea/models/testing/tiny_model.h"

namespace fovea::models {
namespace experts_test {

using formats::Gguf;
using ::testing::AllOf;
using ::testing::HasSubstr;

// The small llama of ModelRecipe with four experts of width 3.
ModelRecipe mixtral() {
  ModelRecipe recipe;
  recipe.set("llama.expert_count", uint32_t{4}).set("llama.expert_used_count", uint32_t{2});
  recipe.set("llama.expert_feed_forward_length", uint32_t{3});
  for (const char* name : {"gate", "up", "down"}) recipe.tensors.erase(fmt::format("blk.0.ffn_{}.weight", name));
  recipe.tensors["blk.0.ffn_gate_inp.weight"] = {8, 4};
  recipe.tensors["blk.0.ffn_gate_exps.weight"] = recipe.tensors["blk.0.ffn_up_exps.weight"] = {8, 3, 4};
  recipe.tensors["blk.0.ffn_down_exps.weight"] = {3, 8, 4};
  return recipe;
}

struct Opened {
  std::string file;
  std::optional<Gguf> gguf;
  explicit Opened(const ModelRecipe& recipe) : file(recipe.build()) {
    auto parsed = Gguf::parse({reinterpret_cast<const std::byte*>(file.data()), file.size()}, "m.gguf");
    EXPECT_TRUE(parsed.has_value()) << parsed.error().message;
    gguf.emplace(std::move(parsed).value());
  }
  std::vector<Error> problems() const {
    const auto config = read_config(*gguf);
    if (!config) return {config.error()};
    const auto family = make_family(*config);
    return bind_weights(*gguf, *family);
  }
};

TEST(Experts, AreSlicesOfTheTensorsOfAll) {
  const Opened model(mixtral());
  EXPECT_THAT(model.problems(), testing::IsEmpty());
  const auto config = read_config(*model.gguf);
  ASSERT_TRUE(config.has_value());
  EXPECT_EQ(config->experts.n, 4);
  EXPECT_EQ(config->experts.used, 2);
  EXPECT_EQ(config->experts.d_ff, 3);
  const auto family = make_family(*config);
  ASSERT_THAT(bind_weights(*model.gguf, *family), testing::IsEmpty());
  std::set<const void*> places;
  for (const tensor::Parameter& p : family->weights()) {
    if (p.name == "blk.0.ffn_down_exps.weight") places.insert(p.target->view.data);
  }
  EXPECT_EQ(places.size(), 4u);
  const auto* first = static_cast<const char*>(*places.begin());
  EXPECT_EQ(static_cast<const char*>(*places.rbegin()) - first, 3 * 3 * 8 * 4);
}

TEST(Experts, NumbersThatDoNotFitAreRefused) {
  const auto refused = [](const std::function<void(ModelRecipe&)>& change, ErrorCode code, const char* key,
                          const char* says) {
    ModelRecipe recipe = mixtral();
    change(recipe);
    const std::vector<Error> problems = Opened(recipe).problems();
    ASSERT_EQ(problems.size(), 1u) << key;
    EXPECT_EQ(problems[0].code, code) << problems[0].message;
    EXPECT_EQ(problems[0].where, key);
    EXPECT_THAT(problems[0].message, AllOf(HasSubstr("m.gguf"), HasSubstr(says)));
  };
  refused([](ModelRecipe& m) { m.set("llama.expert_used_count", uint32_t{5}); }, ErrorCode::kData,
          "llama.expert_used_count", "is 5, but there are 4 experts");
  refused([](ModelRecipe& m) { m.set("llama.expert_used_count", uint32_t{0}); }, ErrorCode::kData,
          "llama.expert_used_count", "is 0");
  refused([](ModelRecipe& m) { m.drop("llama.expert_used_count"); }, ErrorCode::kData, "llama.expert_used_count",
          "expert_used_count");
  refused([](ModelRecipe& m) { m.set("llama.expert_count", uint32_t{1} << 30); }, ErrorCode::kLimit,
          "llama.expert_count", "1073741824");
  refused([](ModelRecipe& m) { m.set("llama.mlp_only_layers", std::vector<int32_t>{1}); }, ErrorCode::kData,
          "llama.mlp_only_layers", "names layer 1 of 1");
  refused(
      [](ModelRecipe& m) {
        m.tensors["blk.0.ffn_gate_inp.weight"] = {8, 3};
      },
      ErrorCode::kData, "tensor blk.0.ffn_gate_inp.weight", "[8, 3]");
}

TEST(Experts, TooFewOfThemInATensorAreRefused) {
  ModelRecipe recipe = mixtral();
  recipe.tensors["blk.0.ffn_up_exps.weight"] = {8, 3, 3};
  const std::vector<Error> problems = Opened(recipe).problems();
  ASSERT_FALSE(problems.empty());
  EXPECT_EQ(problems[0].code, ErrorCode::kData);
  EXPECT_THAT(problems[0].message,
              AllOf(HasSubstr("blk.0.ffn_up_exps.weight"), HasSubstr("[8, 3, 3]"), HasSubstr("4 slices")));
  ModelRecipe narrow = mixtral();
  narrow.tensors["blk.0.ffn_down_exps.weight"] = {4, 8, 4};
  EXPECT_THAT(Opened(narrow).problems().at(0).message, HasSubstr("is [4, 8]"));
}

TEST(Experts, FreshOnesAreDrawnEachAnew) {
  const Opened model(mixtral());
  const auto family = make_family(*read_config(*model.gguf));
  init_weights(*family, 3);
  std::set<float> first;
  for (const tensor::Parameter& p : family->weights()) {
    if (p.name == "blk.0.ffn_up_exps.weight") first.insert(p.target->value.data()[0]);
  }
  EXPECT_EQ(first.size(), 4u);
}

class ExpertHooks : public ::testing::Test {
 protected:
  // hook_mlp_out of the first block, with a hook that edits.
  std::vector<float> mlp_out(const std::string& name, const std::function<void(tensor::Tensor&)>& edit) const {
    tensor::Exec exec{.arena = nullptr, .numerics = tensor::Numerics::kExact};
    tensor::ExecScope scope(exec);
    attention::KvCache cache(attention::CacheShape::of(model_.shape(), kernels::KvType::kF32));
    attention::Hooks hooks(model_.family().hooks());
    std::vector<float> out;
    EXPECT_TRUE(hooks.attach("blocks.0." + name, [&](const std::string&, tensor::Tensor& x) { edit(x); }).has_value());
    EXPECT_TRUE(
        hooks
            .attach("blocks.0.hook_mlp_out",
                    [&](const std::string&, tensor::Tensor& x) { out.assign(x.values().begin(), x.values().end()); })
            .has_value());
    model_.logits(std::span(model_.ids()).first(5), &cache, hooks);
    return out;
  }
  TinyModel model_{"mixtral"};
};

TEST_F(ExpertHooks, IndicesAreThoseOfTheLargestWeights) {
  const auto seen = model_.captured(5);
  const std::vector<float>&weights = seen.at("blocks.0.mlp.hook_expert_weights"),
        &indices = seen.at("blocks.0.mlp.hook_expert_indices");
  ASSERT_EQ(weights.size(), 25u);
  ASSERT_EQ(indices.size(), 10u);
  for (size_t t = 0; t < 5; ++t) {
    const auto row = weights.begin() + static_cast<int64_t>(5 * t);
    EXPECT_EQ(indices[2 * t], static_cast<float>(std::max_element(row, row + 5) - row));
    EXPECT_NEAR(std::accumulate(row, row + 5, 0.0f), 1, 1e-6);
  }
}

TEST_F(ExpertHooks, TokensGoWhereAHookSendsThem) {
  const auto look = [](tensor::Tensor&) {};
  const std::vector<float> before = mlp_out("mlp.hook_gate", look);
  EXPECT_EQ(mlp_out("mlp.hook_expert_indices", look), before);
  const auto swapped = [](tensor::Tensor& x) {
    for (int64_t t = 0; t < x.dim(0); ++t) x.data()[2 * t] = 4, x.data()[2 * t + 1] = 3;
  };
  const std::vector<float> sent = mlp_out("mlp.hook_expert_indices", swapped);
  EXPECT_NE(sent, before);
  // The same two experts, chosen by the router's logits: their order is that of the weights then.
  const std::vector<float> chosen = mlp_out("mlp.hook_gate", [](tensor::Tensor& x) {
    for (int64_t t = 0; t < x.dim(0); ++t) x.data()[5 * t + 4] += 100, x.data()[5 * t + 3] += 50;
  });
  EXPECT_NE(chosen, before);
  EXPECT_THROW(mlp_out("mlp.hook_expert_indices", [](tensor::Tensor& x) { x.data()[0] = 5; }), CheckFailed);
  EXPECT_THROW(mlp_out("mlp.hook_expert_indices", [](tensor::Tensor& x) { x.data()[0] = 0.5f; }), CheckFailed);
}

}  // namespace experts_test
}  // namespace fovea::models
