#include "fovea/attention/hooks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fovea/base/check.h"

namespace fovea::attention {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using tensor::Tensor;

TEST(Hooks, NamesFollowTheLegacySpelling) {
  EXPECT_EQ(hook_name(Site::kPattern, 3), "blocks.3.attn.hook_pattern");
  EXPECT_EQ(hook_name(Site::kEmbed, kNoLayer), "hook_embed");
  EXPECT_EQ(hook_name(Site::kLogits, kNoLayer), "unembed.hook_out");
  EXPECT_EQ(all_hook_names(2).front(), "hook_embed");
  EXPECT_EQ(all_hook_names(2).back(), "unembed.hook_out");
}

TEST(Hooks, GlobsMatchAnyRunAndOneCharacter) {
  EXPECT_TRUE(matches_glob("blocks.*.attn.hook_q", "blocks.12.attn.hook_q"));
  EXPECT_TRUE(matches_glob("blocks.?.hook_*", "blocks.1.hook_mlp_out"));
  EXPECT_FALSE(matches_glob("blocks.?.hook_q", "blocks.12.hook_q"));
  EXPECT_FALSE(matches_glob("", "x"));
  EXPECT_TRUE(matches_glob("**", ""));
}

TEST(Hooks, AnIdleSetGivesTheSameValuesBack) {
  Hooks hooks(2);
  const Tensor x = Tensor::from({2}, std::vector<float>{1.0f, 2.0f});
  EXPECT_EQ(hooks(Site::kResidPre, 0, x).data(), x.data());
  EXPECT_FALSE(hooks.active());
}

TEST(Hooks, ReadsAndReplacesWhereItMatchesOnly) {
  Hooks hooks(2);
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
  Hooks hooks(2);
  const Status status = hooks.attach("blocks.1.attn.hook_patern", [](const std::string&, Tensor&) {});
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().code, ErrorCode::kUsage);
  EXPECT_THAT(status.error().message, HasSubstr("blocks.1.attn.hook_pattern"));
  EXPECT_FALSE(hooks.attach("blocks.99.hook_resid_pre", [](const std::string&, Tensor&) {}).has_value());
}

TEST(Hooks, NamesTheHookThatNeverFired) {
  Hooks hooks(1);
  ASSERT_TRUE(hooks.attach("hook_embed", [](const std::string&, Tensor&) {}));
  const Status status = hooks.check_fired();
  ASSERT_FALSE(status.has_value());
  EXPECT_THAT(status.error().message, HasSubstr("hook_embed"));
  hooks(Site::kEmbed, kNoLayer, Tensor::zeros({1}));
  EXPECT_TRUE(hooks.check_fired().has_value());
}

TEST(Hooks, AReplacementOfAnotherShapeIsACallersMistake) {
  Hooks hooks(1);
  ASSERT_TRUE(hooks.attach("hook_embed", [](const std::string&, Tensor& value) { value = Tensor::zeros({3}); }));
  EXPECT_THROW(hooks(Site::kEmbed, kNoLayer, Tensor::zeros({2})), CheckFailed);
}

}  // namespace
}  // namespace fovea::attention
