#include "fovea/attention/hooks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>

#include "fovea/base/check.h"
#include "fovea/tensor/exec.h"
#include "fovea/tensor/ops/math/add.h"
#include "fovea/tensor/tape.h"

namespace fovea::attention {
namespace hooks_test {

using tensor::Tensor;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

HookMap decoder(int n_layers) {
  return HookMap::decoder(
      {.n_layers = n_layers, .n_heads = 4, .n_kv_heads = 2, .head_dim = 8, .d_model = 24, .d_ff = 40, .vocab_size = 9});
}

TEST(Hooks, NamesFollowTheLegacySpelling) {
  EXPECT_EQ(decoder(4).name({Site::kPattern, 3}), "blocks.3.attn.hook_pattern");
  EXPECT_EQ(decoder(1).name({Site::kEmbed, kNoLayer}), "hook_embed");
  EXPECT_EQ(decoder(1).name({Site::kLogits, kNoLayer}), "unembed.hook_out");
  EXPECT_EQ(decoder(2).names().front(), "hook_embed");
  EXPECT_EQ(decoder(2).names().back(), "unembed.hook_out");
}

TEST(Hooks, GlobsMatchAnyRunAndOneCharacter) {
  EXPECT_TRUE(matches_glob("blocks.*.attn.hook_q", "blocks.12.attn.hook_q"));
  EXPECT_TRUE(matches_glob("blocks.?.hook_*", "blocks.1.hook_mlp_out"));
  EXPECT_FALSE(matches_glob("blocks.?.hook_q", "blocks.12.hook_q"));
  EXPECT_FALSE(matches_glob("", "x"));
  EXPECT_TRUE(matches_glob("**", ""));
}

TEST(Hooks, AnIdleSetGivesTheSameValuesBack) {
  Hooks hooks(decoder(2));
  const Tensor x = Tensor::from({2}, std::vector<float>{1.0f, 2.0f});
  EXPECT_EQ(hooks(Site::kResidPre, 0, x).data(), x.data());
  EXPECT_FALSE(hooks.active());
}

TEST(Hooks, ReadsAndReplacesWhereItMatchesOnly) {
  Hooks hooks(decoder(2));
  std::vector<std::string> seen;
  ASSERT_TRUE(hooks.attach("blocks.*.hook_resid_pre", [&](const std::string& name, Tensor& value) {
    seen.push_back(name);
    value = Tensor::zeros(value.shape());
  }));
  const Tensor x = Tensor::from({2}, std::vector<float>{1.0f, 2.0f});
  EXPECT_EQ(hooks(Site::kResidPre, 1, x).values()[1], 0.0f);
  EXPECT_EQ(hooks(Site::kResidPost, 1, x).values()[1], 2.0f);
  EXPECT_THAT(seen, ElementsAre("blocks.1.hook_resid_pre"));
  EXPECT_TRUE(hooks.wants(Site::kResidPre, 0));
  EXPECT_FALSE(hooks.wants(Site::kZ, 0));
}

TEST(Hooks, RefusesANameThatMatchesNothingAndOffersTheNearest) {
  Hooks hooks(decoder(2));
  const Status status = hooks.attach("blocks.1.attn.hook_patern", [](const std::string&, Tensor&) {});
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().code, ErrorCode::kUsage);
  EXPECT_THAT(status.error().message, HasSubstr("blocks.1.attn.hook_pattern"));
  EXPECT_FALSE(hooks.attach("blocks.99.hook_resid_pre", [](const std::string&, Tensor&) {}).has_value());
}

TEST(Hooks, SaysWhichLayersThereAre) {
  for (const char* name :
       {"blocks.99.hook_resid_pre", "blocks.-33.attn.hook_q", "q99", "layers_output[2]", "layers_output[-3]"}) {
    const auto found = find_hooks(name, decoder(2));
    ASSERT_FALSE(found.has_value()) << name;
    EXPECT_EQ(found.error().code, ErrorCode::kUsage);
  }
  EXPECT_THAT(find_hooks("blocks.99.hook_resid_pre", decoder(2)).error().message,
              HasSubstr("no layer \"99\" in this model of 2 layers (0 to 1)"));
}

TEST(Hooks, SaysWhyAModelOfThisKindHasNoSuchName) {
  const auto why = [](const char* name) { return find_hooks(name, decoder(2)).error().message; };
  EXPECT_THAT(why("hook_pos_embed"), HasSubstr("rotating"));
  EXPECT_THAT(why("blocks.*.mlp.hook_expert_weights"), HasSubstr("experts"));
  EXPECT_THAT(why("blocks.1.ln1_post.hook_scale"), HasSubstr("Gemma"));
  EXPECT_THAT(why("blocks.0.hook_cross_attn_in"), HasSubstr("encoder"));
  EXPECT_THAT(why("blocks.0.linear_attn.*"), HasSubstr("hybrid"));
  EXPECT_THAT(why("vision.blocks.0.attn.hook_pattern"), HasSubstr("text"));
  EXPECT_THAT(why("blocks.0.hook_resid_pre.hook_sae_acts_post"), HasSubstr("autoencoder"));
}

TEST(Hooks, UnderstandsTheNamesOfOtherTools) {
  const std::pair<const char*, const char*> same[] = {
      {"q5", "blocks.5.attn.hook_q"},
      {"pattern3", "blocks.3.attn.hook_pattern"},
      {"scale4ln1", "blocks.4.ln1.hook_scale"},
      {"scale", "ln_final.hook_scale"},
      {"resid_post11", "blocks.11.hook_resid_post"},
      {"mlp_out2", "blocks.2.hook_mlp_out"},
      {"attn_scores0", "blocks.0.attn.hook_attn_scores"},
      {"pre7", "blocks.7.mlp.hook_pre"},
      {"pattern*", "blocks.*.attn.hook_pattern"},
      {"*pattern", "*pattern"},
      {"*", "*"},
      {"embed", "hook_embed"},
      {"blocks.2.hook_in", "blocks.2.hook_resid_pre"},
      {"blocks.*.hook_out", "blocks.*.hook_resid_post"},
      {"blocks.2.attn.q.hook_out", "blocks.2.attn.hook_q"},
      {"embed.hook_out", "hook_embed"},
      {"layers_output[4]", "blocks.4.hook_resid_post"},
      {"layers_output[-1]", "blocks.11.hook_resid_post"},
      {"blk.3.attn_q", "blocks.3.attn.hook_q"},
      {"blk.3.ffn_down", "blocks.3.hook_mlp_out"},
      {"blocks.3.attn.hook_z", "blocks.3.attn.hook_z"},
      {"nothing", "nothing"},
  };
  for (const auto& [theirs, ours] : same) {
    EXPECT_EQ(canonical_hook(theirs, 12), ours);
    EXPECT_EQ(find_hooks(theirs, decoder(12)).has_value(), std::string(theirs) != "nothing") << theirs;
  }
}

TEST(Hooks, EveryNameIsFoundAloneAndAmongAll) {
  const auto all = find_hooks("*", decoder(3));
  ASSERT_TRUE(all.has_value());
  for (const HookPoint& point : *all) {
    const auto one = find_hooks(decoder(3).name(point), decoder(3));
    ASSERT_TRUE(one.has_value());
    EXPECT_THAT(*one, ElementsAre(point));
  }
  EXPECT_EQ(decoder(3).names().size(), all->size());
}

TEST(Hooks, AScopeDetachesItsHookOnly) {
  Hooks hooks(decoder(1));
  int a = 0, b = 0;
  ASSERT_TRUE(hooks.attach("hook_embed", [&](const std::string&, Tensor&) { ++a; }));
  {
    const auto scope = hooks.scoped("hook_embed", [&](const std::string&, Tensor&) { ++b; });
    ASSERT_TRUE(scope.has_value());
    hooks(Site::kEmbed, kNoLayer, Tensor::zeros({1}));
  }
  hooks(Site::kEmbed, kNoLayer, Tensor::zeros({1}));
  EXPECT_EQ(a, 2);
  EXPECT_EQ(b, 1);
  EXPECT_FALSE(hooks.scoped("nothing_like_it", [](const std::string&, Tensor&) {}).has_value());
}

TEST(Hooks, AHookMayEndItsOwnScope) {
  Hooks hooks(decoder(1));
  int fired = 0;
  std::optional<HookScope> scope;
  auto made = hooks.scoped("hook_embed", [&](const std::string&, Tensor&) {
    ++fired;
    scope.reset();
  });
  scope.emplace(std::move(made).value());
  hooks(Site::kEmbed, kNoLayer, Tensor::zeros({1}));
  EXPECT_FALSE(hooks.active());
  hooks(Site::kEmbed, kNoLayer, Tensor::zeros({1}));
  EXPECT_EQ(fired, 1);
}

TEST(Hooks, AttachingFromInsideAHookIsACallersMistake) {
  Hooks hooks(decoder(1));
  ASSERT_TRUE(hooks.attach("hook_embed", [&](const std::string&, Tensor&) {
    (void)hooks.attach("hook_embed", [](const std::string&, Tensor&) {});
  }));
  EXPECT_THROW(hooks(Site::kEmbed, kNoLayer, Tensor::zeros({1})), CheckFailed);
}

TEST(Hooks, OnTheTapeAValueIsReplacedAndNeverWrittenInPlace) {
  tensor::Tape tape;
  tensor::Exec exec{.tape = &tape};
  tensor::ExecScope scope(exec);
  const Tensor x = Tensor::zeros({2});
  tape.watch(x);
  Hooks hooks(decoder(1));
  ASSERT_TRUE(hooks.attach("hook_embed", [](const std::string&, Tensor& value) { value.data()[1] = 3; }));
  EXPECT_THROW(hooks(Site::kEmbed, kNoLayer, x), CheckFailed);
  EXPECT_NO_THROW(hooks(Site::kEmbed, kNoLayer, Tensor::zeros({2})));  // no gradient flows there
  hooks.clear();
  ASSERT_TRUE(hooks.attach("hook_embed", [](const std::string&, Tensor& value) { value = tensor::add(value, value); }));
  tape.backward(hooks(Site::kEmbed, kNoLayer, x), Tensor::from({2}, std::vector<float>{1, 10}));
  EXPECT_EQ(tape.grad(x).data()[1], 20.0f);
}

TEST(Hooks, NamesTheHookThatNeverFired) {
  Hooks hooks(decoder(1));
  ASSERT_TRUE(hooks.attach("hook_embed", [](const std::string&, Tensor&) {}));
  const Status status = hooks.check_fired();
  ASSERT_FALSE(status.has_value());
  EXPECT_THAT(status.error().message, HasSubstr("hook_embed"));
  hooks(Site::kEmbed, kNoLayer, Tensor::zeros({1}));
  EXPECT_TRUE(hooks.check_fired().has_value());
}

TEST(Hooks, AReplacementOfAnotherShapeIsACallersMistake) {
  Hooks hooks(decoder(1));
  ASSERT_TRUE(hooks.attach("hook_embed", [](const std::string&, Tensor& value) { value = Tensor::zeros({3}); }));
  EXPECT_THROW(hooks(Site::kEmbed, kNoLayer, Tensor::zeros({2})), CheckFailed);
}

// A tower of one layer before a block with two.
HookMap towers() {
  const AttentionShape layer{.n_heads = 2, .n_k_heads = 1, .n_v_heads = 1, .k_dim = 8, .v_dim = 4, .scale = 1};
  HookMap map({.n_layers = 3, .d_model = 24, .d_ff = 40, .attention = {layer, layer, layer}});
  map.add({.layer = 0, .name = "vision.blocks.0", .d_model = 6}, std::vector{Site::kResidPre, Site::kQ});
  map.add({.layer = 1, .name = "blocks.0"}, std::vector{Site::kResidPre, Site::kQ, Site::kV});
  map.add({.layer = 2, .name = "blocks.0", .attention = "cross_attn"}, std::vector{Site::kQ, Site::kPattern});
  map.add_own({.layer = 1, .name = "blocks.0"}, own_site(3), "router.hook_temperature", {HookMap::kTokens, 2});
  return map;
}

TEST(HookMap, NamesAreThoseThatTheFamilyLists) {
  const HookMap map = towers();
  EXPECT_THAT(map.names(),
              ElementsAre("vision.blocks.0.hook_resid_pre", "vision.blocks.0.attn.hook_q", "blocks.0.hook_resid_pre",
                          "blocks.0.attn.hook_q", "blocks.0.attn.hook_v", "blocks.0.cross_attn.hook_q",
                          "blocks.0.cross_attn.hook_pattern", "blocks.0.router.hook_temperature"));
  EXPECT_EQ(map.n_blocks(), 1);
  EXPECT_THROW(HookMap(map).add({.layer = 0, .name = "x"}, std::vector{Site::kQ}), CheckFailed) << "twice";
  EXPECT_THROW(HookMap(map).add({.layer = 3, .name = "x"}, std::vector{Site::kQ}), CheckFailed) << "no such layer";
}

TEST(HookMap, ShapesAreThoseOfTheLayerAndItsTower) {
  const HookMap map = towers();
  EXPECT_THAT(map.shape({Site::kResidPre, 0}, 5, 7), ElementsAre(5, 6));
  EXPECT_THAT(map.shape({Site::kResidPre, 1}, 5, 7), ElementsAre(5, 24));
  EXPECT_THAT(map.shape({Site::kV, 1}, 5, 7), ElementsAre(5, 1, 4));
  EXPECT_THAT(map.shape({Site::kPattern, 2}, 5, 7), ElementsAre(2, 5, 7));
  EXPECT_THAT(map.shape({own_site(3), 1}, 5, 7), ElementsAre(5, 2));
}

TEST(Hooks, FireWhereTheMapHasTheSiteAndNowhereElse) {
  Hooks hooks(towers());
  std::vector<std::string> fired;
  ASSERT_TRUE(hooks.attach("*", [&](const std::string& name, Tensor&) { fired.push_back(name); }));
  hooks(own_site(3), 1, Tensor::zeros({1}));
  hooks(Site::kQ, 2, Tensor::zeros({1}));
  hooks(Site::kZ, 2, Tensor::zeros({1}));
  EXPECT_THAT(fired, ElementsAre("blocks.0.router.hook_temperature", "blocks.0.cross_attn.hook_q"));
  EXPECT_TRUE(hooks.wants(own_site(3), 1));
  EXPECT_FALSE(hooks.wants(own_site(3), 0));
  EXPECT_FALSE(hooks.wants(Site::kZ, 2));
  EXPECT_THAT(find_hooks("q0", towers()).value(), ElementsAre(HookPoint{Site::kQ, 1}))
      << "of the blocks without a tower";
}

TEST(Hooks, OfOneSequenceLeaveTheGradientsOfItsRowsWhole) {
  tensor::Tape tape;
  tensor::Exec exec{.tape = &tape};
  tensor::ExecScope scope(exec);
  const Tensor x = Tensor::from({3, 1}, std::vector<float>{1, 2, 3});
  tape.watch(x);
  Batch batch;
  const std::vector<int32_t> token = {0};
  for (const SequenceId sequence : {0, 1, 2}) batch.add(token, 0, sequence);
  Hooks hooks(decoder(1));
  const HookBatch rows(hooks, batch);
  ASSERT_TRUE(
      hooks.attach("hook_embed", 1, [](const std::string&, Tensor& value) { value = tensor::add(value, value); }));
  const Tensor y = hooks(Site::kEmbed, kNoLayer, x);
  EXPECT_THAT(y.values(), ElementsAre(1, 4, 3));
  tape.backward(y, Tensor::from({3, 1}, std::vector<float>{1, 1, 1}));
  EXPECT_THAT(tape.grad(x).values(), ElementsAre(1, 2, 1));
  hooks.clear();
  ASSERT_TRUE(hooks.attach("hook_embed", 1, [](const std::string&, Tensor& value) { value.data()[0] = 9; }));
  EXPECT_THROW(hooks(Site::kEmbed, kNoLayer, x), CheckFailed) << "in place";
}

}  // namespace hooks_test
}  // namespace fovea::attention
