#include "fovea/models/support/post_norm.h"

#include <string>
#include <utility>
#include <vector>

#include "fovea/models/support/layers.h"
#include "fovea/tensor/ops/ops.h"

namespace fovea::models {

using attention::Site;
using tensor::Tensor;

namespace {

DecoderStyle as_encoder(DecoderStyle style) {
  style.layer_norm = true, style.makes_text = false;
  return style;
}

// Where nobody looks, what comes next is made with it; a hook that follows may write into the result.
Tensor normed(const Tensor& x, const Norm& by, attention::Hooks& hook, int layer, Site scale, Site normalized,
              tensor::Next next) {
  if (hook.wants(scale, layer) || hook.wants(normalized, layer)) return norm(x, by, hook, layer, scale, normalized);
  return layer_norm(x, by.weight, by.bias, by.eps, hook.active() ? tensor::Next::kAnything : next);
}

}  // namespace

PostNormEncoder::PostNormEncoder(const Config& config, DecoderStyle style)
    : Decoder(config, as_encoder(std::move(style))) {}

attention::HookMap PostNormEncoder::hooks() const {
  using enum Site;
  const attention::ModelShape& s = config().shape;
  const bool turns = s.site(0).rope != attention::AttentionShape::kNoRope, gate = has_row(&DecoderBlock::w_gate);
  attention::HookMap map(s);
  map.add(kEmbed);
  if (!turns) map.add(kPosEmbed);
  for (int l = 0; l < s.n_layers; ++l) {
    const attention::HookBlock block{.layer = l, .name = "blocks." + std::to_string(l)};
    std::vector<Site> sites = {kResidPre, kQInput, kKInput, kVInput, kQ, kK, kV};
    if (turns) sites.insert(sites.end(), {kRotQ, kRotK});
    sites.insert(sites.end(),
                 {kScores, kPattern, kZ, kResult, kAttnOut, kResidMid, kLn1Scale, kLn1Normalized, kMlpPre});
    if (gate) sites.push_back(kMlpPreLinear);
    sites.insert(sites.end(), {kMlpPost, kMlpOut, kResidPost, kLn2Scale, kLn2Normalized});
    map.add(block, sites);
    map.add_own(block, kNormalizedPost, "hook_normalized_resid_post", {attention::HookMap::kTokens, s.d_model});
  }
  return map;
}

Tensor PostNormEncoder::block(int l, Tensor x, attention::Attend& attend, attention::Hooks& hook) const {
  const DecoderBlock& w = weights_of(l);
  const attention::AttentionShape a = config().shape.site(l);
  x = hook(Site::kResidPre, l, std::move(x));  // [n_tokens, d_model]
  auto [q, k, v] = project_inputs({x, x, Norm{kNoWeight}, hook, l}, {{Site::kQInput, w.w_q, w.b_q, a.n_heads},
                                                                     {Site::kKInput, w.w_k, w.b_k, a.n_k_heads},
                                                                     {Site::kVInput, w.w_v, w.b_v, a.n_v_heads}});
  const Tensor z = attend(l, {std::move(q), std::move(k), std::move(v), x, x});  // [n_tokens, n_heads, v_dim]
  x = hook(Site::kResidMid, l, add_attn_out(x, z, {{w.w_o, w.b_o}}, hook, l));
  x = normed(x, norm_of(w.attn_norm, w.b_attn_norm), hook, l, Site::kLn1Scale, Site::kLn1Normalized,
             tensor::Next::kProducts);
  const Tensor h = mlp_hidden(x, {{w.w_gate, w.b_gate}, {w.w_up, w.b_up}, config().decoder.activation}, hook, l);
  x = hook(Site::kResidPost, l, add_mlp_out(x, h, {{w.w_down, w.b_down}}, hook, l));
  x = normed(x, norm_of(w.mlp_norm, w.b_mlp_norm), hook, l, Site::kLn2Scale, Site::kLn2Normalized,
             tensor::Next::kFineProducts);
  return hook(kNormalizedPost, l, std::move(x));
}

std::vector<EndRow> encoder_ends(const EncoderEnds& hf, std::initializer_list<EndRow> more) {
  using E = DecoderEnds;
  using enum Width;
  const std::string norm = hf.norm;
  std::vector<EndRow> rows = {
      {"token_embd.weight", hf.tokens, {kModel, kVocab}, &E::embed},
      {"token_types.weight", hf.types, {kModel, kTypes}, &E::type_embed},
      {"token_embd_norm.weight", norm + "weight", {kModel}, &E::embed_norm, tensor::Init::ones()},
      {"token_embd_norm.bias", norm + "bias", {kModel}, &E::b_embed_norm, tensor::Init::zeros()}};
  rows.insert(rows.end(), more);
  return rows;
}

Status read_encoder(const Keys& keys, Config& config) {
  constexpr int64_t kMaxTypes = 1'024;
  constexpr const char* kInGguf = "tokenizer.ggml.token_type_count";
  FOVEA_ASSIGN_OR_RETURN(int64_t n, keys.size_or("type_vocab_size", 2, 1, kMaxTypes));
  if (keys.source().has(kInGguf)) {
    FOVEA_ASSIGN_OR_RETURN(const uint64_t count, keys.source().get_u64(kInGguf));
    if (count < 1 || count > kMaxTypes)
      return make_error(ErrorCode::kData, "{}: key \"{}\" is {}; 1 to {} are allowed", keys.source().name(), kInGguf,
                        count, kMaxTypes);
    n = static_cast<int64_t>(count);
  }
  config.n_token_types = static_cast<int>(n);
  look_both_ways(config);
  return {};
}

}  // namespace fovea::models
