#include "fovea/attention/hook_map.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "fovea/base/check.h"

namespace fovea::attention {
namespace {

enum class Dim {
  kNone,
  kTokens,
  kKeys,
  kOne,
  kHeads,
  kKeyHeads,
  kValueHeads,
  kKeyDim,
  kValueDim,
  kModel,
  kMlp,
  kExperts,
  kUsedExperts,
  kVocab
};

struct SiteRow {
  Site site;
  std::string_view suffix;
  std::array<Dim, 3> dims;
};

using enum Dim;
constexpr SiteRow kTable[] = {
    {Site::kEmbed, "hook_embed", {kTokens, kModel}},
    {Site::kPosEmbed, "hook_pos_embed", {kTokens, kModel}},
    {Site::kResidPre, "hook_resid_pre", {kTokens, kModel}},
    {Site::kAttnIn, "hook_attn_in", {kTokens, kModel}},
    {Site::kLn1Scale, "ln1.hook_scale", {kTokens, kOne}},
    {Site::kLn1Normalized, "ln1.hook_normalized", {kTokens, kModel}},
    {Site::kQInput, "hook_q_input", {kTokens, kHeads, kModel}},
    {Site::kKInput, "hook_k_input", {kTokens, kKeyHeads, kModel}},
    {Site::kVInput, "hook_v_input", {kTokens, kValueHeads, kModel}},
    {Site::kQ, "attn.hook_q", {kTokens, kHeads, kKeyDim}},
    {Site::kK, "attn.hook_k", {kTokens, kKeyHeads, kKeyDim}},
    {Site::kV, "attn.hook_v", {kTokens, kValueHeads, kValueDim}},
    {Site::kRotQ, "attn.hook_rot_q", {kTokens, kHeads, kKeyDim}},
    {Site::kRotK, "attn.hook_rot_k", {kTokens, kKeyHeads, kKeyDim}},
    {Site::kScores, "attn.hook_attn_scores", {kHeads, kTokens, kKeys}},
    {Site::kPattern, "attn.hook_pattern", {kHeads, kTokens, kKeys}},
    {Site::kZ, "attn.hook_z", {kTokens, kHeads, kValueDim}},
    {Site::kResult, "attn.hook_result", {kTokens, kHeads, kModel}},
    {Site::kLn1PostScale, "ln1_post.hook_scale", {kTokens, kOne}},
    {Site::kLn1PostNormalized, "ln1_post.hook_normalized", {kTokens, kModel}},
    {Site::kAttnOut, "hook_attn_out", {kTokens, kModel}},
    {Site::kResidMid, "hook_resid_mid", {kTokens, kModel}},
    {Site::kCrossAttnIn, "hook_cross_attn_in", {kTokens, kModel}},
    {Site::kCrossAttnOut, "hook_cross_attn_out", {kTokens, kModel}},
    {Site::kResidMidCross, "hook_resid_mid_cross", {kTokens, kModel}},
    {Site::kMlpIn, "hook_mlp_in", {kTokens, kModel}},
    {Site::kLn2Scale, "ln2.hook_scale", {kTokens, kOne}},
    {Site::kLn2Normalized, "ln2.hook_normalized", {kTokens, kModel}},
    {Site::kMlpGate, "mlp.hook_gate", {kTokens, kExperts}},
    {Site::kExpertWeights, "mlp.hook_expert_weights", {kTokens, kExperts}},
    {Site::kExpertIndices, "mlp.hook_expert_indices", {kTokens, kUsedExperts}},
    {Site::kMlpPre, "mlp.hook_pre", {kTokens, kMlp}},
    {Site::kMlpPreLinear, "mlp.hook_pre_linear", {kTokens, kMlp}},
    {Site::kMlpPost, "mlp.hook_post", {kTokens, kMlp}},
    {Site::kLn2PostScale, "ln2_post.hook_scale", {kTokens, kOne}},
    {Site::kLn2PostNormalized, "ln2_post.hook_normalized", {kTokens, kModel}},
    {Site::kMlpOut, "hook_mlp_out", {kTokens, kModel}},
    {Site::kResidPost, "hook_resid_post", {kTokens, kModel}},
    {Site::kLnFinalScale, "ln_final.hook_scale", {kTokens, kOne}},
    {Site::kLnFinalNormalized, "ln_final.hook_normalized", {kTokens, kModel}},
    {Site::kUnembedIn, "unembed.hook_in", {kTokens, kModel}},
    {Site::kLogits, "unembed.hook_out", {kTokens, kVocab}},
};
static_assert(std::size(kTable) == static_cast<size_t>(kSites));

const SiteRow& row(Site site) { return kTable[static_cast<size_t>(site)]; }

std::vector<int64_t> shape_of(Site site, const ModelShape& model, const HookBlock& block) {
  const AttentionShape at = in_block(site) ? model.site(block.layer) : AttentionShape{};
  std::vector<int64_t> shape;
  for (const Dim dim : row(site).dims) {
    switch (dim) {
      case kNone: break;
      case kTokens: shape.push_back(HookMap::kTokens); break;
      case kKeys: shape.push_back(HookMap::kKeys); break;
      case kOne: shape.push_back(1); break;
      case kHeads: shape.push_back(at.n_heads); break;
      case kKeyHeads: shape.push_back(at.n_k_heads); break;
      case kValueHeads: shape.push_back(at.n_v_heads); break;
      case kKeyDim: shape.push_back(at.k_dim); break;
      case kValueDim: shape.push_back(at.v_dim); break;
      case kModel: shape.push_back(block.d_model > 0 ? block.d_model : model.d_model); break;
      case kMlp: shape.push_back(block.d_ff > 0 ? block.d_ff : model.d_ff); break;
      case kExperts: shape.push_back(block.n_experts); break;
      case kUsedExperts: shape.push_back(block.n_used); break;
      case kVocab: shape.push_back(model.vocab_size); break;
    }
  }
  return shape;
}

}  // namespace

bool in_block(Site site) { return site >= Site::kResidPre && site <= Site::kResidPost; }

std::string_view suffix(Site site) { return row(site).suffix; }

std::span<const Site> HookMap::decoder_sites() {
  using enum Site;
  static constexpr Site kAll[] = {
      kResidPre, kAttnIn,   kLn1Scale,      kLn1Normalized, kQInput,       kKInput,  kVInput, kQ,        kK,
      kV,        kRotQ,     kRotK,          kScores,        kPattern,      kZ,       kResult, kAttnOut,  kResidMid,
      kMlpIn,    kLn2Scale, kLn2Normalized, kMlpPre,        kMlpPreLinear, kMlpPost, kMlpOut, kResidPost};
  return kAll;
}

HookMap HookMap::decoder(const ModelShape& model, std::span<const Site> sites) {
  HookMap map(model);
  map.add(Site::kEmbed);
  for (int layer = 0; layer < model.n_layers; ++layer)
    map.add({.layer = layer, .name = fmt::format("blocks.{}", layer)}, sites);
  for (const Site site : {Site::kLnFinalScale, Site::kLnFinalNormalized, Site::kUnembedIn, Site::kLogits})
    map.add(site);
  return map;
}

void HookMap::add(Site site) {
  FOVEA_CHECK(!in_block(site), "hooks: {} is of a block", suffix(site));
  put({site, kNoLayer}, std::string(suffix(site)), shape_of(site, model_, {}));
}

void HookMap::add(const HookBlock& block, std::span<const Site> sites) {
  for (const Site site : sites) {
    std::string_view name = suffix(site);
    std::string full = block.name + ".";
    if (name.starts_with("attn.")) {
      full += block.attention;
      name.remove_prefix(4);
    }
    put({site, block.layer}, full.append(name), shape_of(site, model_, block));
  }
  if (std::find(blocks_.begin(), blocks_.end(), block.name) == blocks_.end()) blocks_.push_back(block.name);
}

void HookMap::add_own(Site site, std::string name, std::vector<int64_t> shape) {
  put({site, kNoLayer}, std::move(name), std::move(shape));
}

void HookMap::add_own(const HookBlock& block, Site site, std::string_view name, std::vector<int64_t> shape) {
  put({site, block.layer}, fmt::format("{}.{}", block.name, name), std::move(shape));
}

void HookMap::put(HookPoint point, std::string name, std::vector<int64_t> shape) {
  FOVEA_CHECK(point.layer >= kNoLayer && point.layer < model_.n_layers, "hooks: {} is of layer {} of {}", name,
              point.layer, model_.n_layers);
  FOVEA_CHECK(index(point.site, point.layer) < 0, "hooks: {} twice", name);
  const auto layer = static_cast<size_t>(point.layer + 1), site = static_cast<size_t>(point.site);
  if (places_.size() <= layer) places_.resize(layer + 1);
  if (places_[layer].size() <= site) places_[layer].resize(site + 1, -1);
  places_[layer][site] = static_cast<int>(hooks_.size());
  hooks_.push_back({point, std::move(name), std::move(shape)});
}

std::vector<std::string> HookMap::names() const {
  std::vector<std::string> names;
  for (const Hook& hook : hooks_) names.push_back(hook.name);
  return names;
}

int HookMap::n_blocks() const {
  return static_cast<int>(
      std::count_if(blocks_.begin(), blocks_.end(), [](const auto& name) { return name.starts_with("blocks."); }));
}

int HookMap::index(Site site, int layer) const {
  const auto l = static_cast<size_t>(layer + 1), s = static_cast<size_t>(site);
  return l < places_.size() && s < places_[l].size() ? places_[l][s] : -1;
}

const std::string& HookMap::name(const HookPoint& point) const {
  return hooks_.at(static_cast<size_t>(index(point.site, point.layer))).name;
}

std::vector<int64_t> HookMap::shape(const HookPoint& point, int64_t n, int64_t n_keys) const {
  std::vector<int64_t> shape = hooks_.at(static_cast<size_t>(index(point.site, point.layer))).shape;
  std::replace(shape.begin(), shape.end(), kTokens, n);
  std::replace(shape.begin(), shape.end(), kKeys, n_keys);
  return shape;
}

}  // namespace fovea::attention
