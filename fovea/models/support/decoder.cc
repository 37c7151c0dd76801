#include "fovea/models/support/decoder.h"

#include <algorithm>
#include <utility>

#include "fovea/models/support/experts.h"
#include "fovea/tensor/ops/ops.h"

namespace fovea::models {

using attention::kNoLayer;
using attention::Site;
using tensor::Tensor;

namespace {

template <typename Row>
bool has(const std::vector<Row>& rows, decltype(Row::target) target) {
  return std::any_of(rows.begin(), rows.end(), [&](const Row& row) { return row.target == target; });
}

}  // namespace

Decoder::Decoder(const Config& config, DecoderStyle style)
    : cfg_(config), style_(std::move(style)), blocks_(static_cast<size_t>(config.shape.n_layers)) {}

bool Decoder::has_row(tensor::Weight DecoderBlock::*target) const { return has(style_.rows, target); }

attention::HookMap Decoder::hooks() const {
  using B = DecoderBlock;
  const auto rows_have = [&](tensor::Weight B::*target) { return has_row(target); };
  const bool has_ln2 = rows_have(&B::mlp_norm) || cfg_.decoder.parallel;  // one norm may serve both branches
  attention::HookMap map(cfg_.shape);
  map.add(Site::kEmbed);
  if (has(style_.ends, &DecoderEnds::pos_embed)) map.add(Site::kPosEmbed);
  for (int l = 0; l < cfg_.shape.n_layers; ++l) {
    const auto absent = [&](Site site) {
      switch (site) {
        case Site::kLn1Scale:
        case Site::kLn1Normalized: return !rows_have(&B::attn_norm) || (l == 0 && !style_.first_norm);
        case Site::kRotQ:
        case Site::kRotK: return cfg_.shape.site(l).rope == attention::AttentionShape::kNoRope;
        case Site::kResidMid: return cfg_.decoder.parallel;
        case Site::kLn2Scale:
        case Site::kLn2Normalized: return !has_ln2;
        case Site::kMlpPre:
        case Site::kMlpPost: return cfg_.experts.in(l);
        case Site::kMlpPreLinear: return cfg_.experts.in(l) || !rows_have(&B::w_gate);
        default: return false;
      }
    };
    std::vector<Site> sites;
    for (const Site site : attention::HookMap::decoder_sites()) {
      if (!absent(site)) sites.push_back(site);
    }
    if (rows_have(&B::attn_post_norm)) sites.insert(sites.end(), {Site::kLn1PostScale, Site::kLn1PostNormalized});
    if (rows_have(&B::mlp_post_norm)) sites.insert(sites.end(), {Site::kLn2PostScale, Site::kLn2PostNormalized});
    if (cfg_.experts.in(l)) sites.insert(sites.end(), {Site::kMlpGate, Site::kExpertWeights, Site::kExpertIndices});
    std::sort(sites.begin(), sites.end());
    map.add(
        {.layer = l, .name = "blocks." + std::to_string(l), .n_experts = cfg_.experts.n, .n_used = cfg_.experts.used},
        sites);
  }
  for (const Site site : {Site::kLnFinalScale, Site::kLnFinalNormalized}) map.add(site);
  if (!style_.makes_text) return map;
  for (const Site site : {Site::kUnembedIn, Site::kLogits}) map.add(site);
  return map;
}

Tensor Decoder::embed(const attention::Batch& batch, attention::Hooks& hook) const {
  Tensor x = tensor::embed(ends_.embed, batch.tokens);  // [n_tokens, d_model]
  if (cfg_.decoder.embed_scale != 1) x = tensor::affine(x, cfg_.decoder.embed_scale);
  x = hook(Site::kEmbed, kNoLayer, std::move(x));
  if (ends_.type_embed.defined())
    x = add(x, tensor::embed(ends_.type_embed, std::vector<int32_t>(batch.tokens.size(), 0)));
  if (ends_.pos_embed.defined())
    x = add(x, hook(Site::kPosEmbed, kNoLayer, tensor::embed(ends_.pos_embed, batch.positions)));
  return ends_.embed_norm.defined() ? layer_norm(x, ends_.embed_norm, ends_.b_embed_norm, cfg_.norm_eps) : x;
}

Tensor Decoder::block(int l, Tensor x, attention::Attend& attend, attention::Hooks& hook) const {
  const DecoderBlock& w = blocks_[static_cast<size_t>(l)];
  const attention::AttentionShape a = cfg_.shape.site(l);
  const DecoderScalars& by = cfg_.decoder;
  const Norm ln1 = norm_of(w.attn_norm, w.b_attn_norm), ln2 = norm_of(w.mlp_norm, w.b_mlp_norm);
  x = hook(Site::kResidPre, l, std::move(x));
  const Tensor pre = x, attn_in = branch(x, hook, Site::kAttnIn, l);
  Tensor h = norm(attn_in, ln1, hook, l, Site::kLn1Scale, Site::kLn1Normalized);
  auto [q, k, v] = project_inputs({attn_in, h, ln1, hook, l},
                                  {{Site::kQInput, w.w_q, w.b_q, a.n_heads},    // [n_tokens, n_heads, k_dim]
                                   {Site::kKInput, w.w_k, w.b_k, a.n_k_heads},  // [n_tokens, n_k_heads, k_dim]
                                   {Site::kVInput, w.w_v, w.b_v, a.n_v_heads}});
  q = norm_heads(q, w.q_norm, cfg_.norm_eps);
  k = norm_heads(k, w.k_norm, cfg_.norm_eps);
  const Tensor sinks = w.sinks.defined() ? weight_values(w.sinks) : Tensor();
  const Tensor z = attend(
      l, {std::move(q), std::move(k), std::move(v), attn_in, h, sinks, bias_by_distance()});  // [n, n_heads, v_dim]
  x = add_attn_out(x, z, {{w.w_o, w.b_o}, norm_of(w.attn_post_norm, kNoWeight), by.residual_scale}, hook, l);
  if (!by.parallel) x = hook(Site::kResidMid, l, std::move(x));

  const Tensor mlp_in = branch(by.parallel ? pre : x, hook, Site::kMlpIn, l);
  const bool again = by.parallel && !ln2.weight.defined();  // what ln1 gave, unless a hook wants to see it as ln2's
  if (!again) h = norm(mlp_in, ln2, hook, l, Site::kLn2Scale, Site::kLn2Normalized);
  if (again && (hook.wants(Site::kMlpIn, l) || hook.wants(Site::kLn2Scale, l) || hook.wants(Site::kLn2Normalized, l) ||
                hook.wants(Site::kAttnIn, l) || hook.wants(Site::kLn1Scale, l) || hook.wants(Site::kLn1Normalized, l)))
    h = norm(mlp_in, ln1, hook, l, Site::kLn2Scale, Site::kLn2Normalized);
  return hook(Site::kResidPost, l, add_mlp(l, x, h, hook));
}

Tensor Decoder::add_mlp(int l, const Tensor& x, const Tensor& h, attention::Hooks& hook) const {
  const DecoderBlock& w = blocks_[static_cast<size_t>(l)];
  const DecoderScalars& by = cfg_.decoder;
  const Norm post = norm_of(w.mlp_post_norm, kNoWeight);
  if (!cfg_.experts.in(l)) {
    const Tensor hidden =
        mlp_hidden(h, {{w.w_gate, w.b_gate}, {w.w_up, w.b_up}, by.activation}, hook, l);  // [n_tokens, d_ff]
    return add_mlp_out(x, hidden, {{w.w_down, w.b_down}, post, by.residual_scale}, hook, l);
  }
  Tensor y = mix_experts(h, {{w.w_router, w.b_router}, w.experts, cfg_.experts, by.activation}, hook, l);
  if (w.w_shared_up.defined()) {
    const Linear gate{w.w_shared_gate, kNoWeight}, up{w.w_shared_up, kNoWeight};
    const Tensor shared = matmul(matmul_gated(h, gate, up, by.activation, tensor::Next::kProducts), w.w_shared_down);
    y = add(y, mul_spread(shared, tensor::sigmoid(matmul(h, w.w_shared_router))));
  }
  y = norm(y, post, hook, l, Site::kLn2PostScale, Site::kLn2PostNormalized);
  if (by.residual_scale != 1) y = tensor::affine(y, by.residual_scale);
  return add(x, hook(Site::kMlpOut, l, std::move(y)));
}

Tensor Decoder::unembed(const Tensor& x, const attention::Batch& batch, attention::Hooks& hook) const {
  if (!style_.makes_text) return {};
  const tensor::Weight& head = ends_.lm_head.defined() ? ends_.lm_head : ends_.embed;
  return models::unembed(x, batch,
                         {.norm = norm_of(ends_.final_norm, ends_.b_final_norm),
                          .head = {head, ends_.b_lm_head},
                          .scale = cfg_.decoder.logit_scale,
                          .softcap = cfg_.decoder.logit_softcap},
                         hook);
}

Tensor Decoder::final_norm(const Tensor& x, attention::Hooks& hook) const {
  return norm(x, norm_of(ends_.final_norm, ends_.b_final_norm), hook, kNoLayer, Site::kLnFinalScale,
              Site::kLnFinalNormalized);
}

}  // namespace fovea::models
