#include "fovea/models/support/decoder.h"

#include <fmt/core.h>

#include <algorithm>
#include <span>
#include <utility>

#include "fovea/models/support/blocks.h"
#include "fovea/tensor/ops/ops.h"

namespace fovea::models {

using attention::kNoLayer;
using attention::Site;
using tensor::Init;
using tensor::Parameter;
using tensor::Tensor;

std::vector<DecoderRow> decoder_rows(std::initializer_list<DecoderRow> more) {
  using enum DecoderRow::Width;
  using B = DecoderBlock;
  std::vector<DecoderRow> rows = {
      {"attn_norm.weight", "input_layernorm.weight", {kModel}, &B::attn_norm, Init::ones()},
      {"attn_q.weight", "self_attn.q_proj.weight", {kModel, kQ}, &B::w_q},
      {"attn_k.weight", "self_attn.k_proj.weight", {kModel, kK}, &B::w_k},
      {"attn_v.weight", "self_attn.v_proj.weight", {kModel, kV}, &B::w_v},
      {"attn_output.weight", "self_attn.o_proj.weight", {kZ, kModel}, &B::w_o},
      {"ffn_norm.weight", "post_attention_layernorm.weight", {kModel}, &B::mlp_norm, Init::ones()},
      {"ffn_gate.weight", "mlp.gate_proj.weight", {kModel, kMlp}, &B::w_gate},
      {"ffn_up.weight", "mlp.up_proj.weight", {kModel, kMlp}, &B::w_up},
      {"ffn_down.weight", "mlp.down_proj.weight", {kMlp, kModel}, &B::w_down}};
  for (const DecoderRow& row : more) {
    const auto same = std::find_if(rows.begin(), rows.end(), [&](const auto& r) { return r.target == row.target; });
    if (same == rows.end()) {
      rows.push_back(row);
    } else {
      *same = row;
    }
  }
  return rows;
}

Decoder::Decoder(const Config& config, DecoderStyle style)
    : cfg_(config), style_(std::move(style)), blocks_(static_cast<size_t>(config.shape.n_layers)) {}

std::vector<Parameter> Decoder::weights() {
  const auto& s = cfg_.shape;
  std::vector<Parameter> table = {
      {"token_embd.weight", "model.embed_tokens.weight", {s.d_model, s.vocab_size}, &embed_},
      {"output_norm.weight", "model.norm.weight", {s.d_model}, &final_norm_, Init::ones()},
      {"output.weight", "lm_head.weight", {s.d_model, s.vocab_size}, &lm_head_, Init::normal(0.02f), true}};  // tied if
                                                                                                              // absent
  for (int l = 0; l < s.n_layers; ++l) {
    const attention::AttentionShape a = s.site(l);
    const int64_t widths[] = {0,
                              s.d_model,
                              int64_t{a.n_heads} * a.k_dim,
                              int64_t{a.n_k_heads} * a.k_dim,
                              int64_t{a.n_v_heads} * a.v_dim,
                              int64_t{a.n_heads} * a.v_dim,
                              s.d_ff,
                              a.k_dim};  // by DecoderRow::Width
    for (const DecoderRow& row : style_.rows) {
      std::vector<int64_t> shape;
      for (const auto width : row.shape) {
        if (width != DecoderRow::Width::kNone) shape.push_back(widths[static_cast<size_t>(width)]);
      }
      table.push_back({fmt::format("blk.{}.{}", l, row.name), fmt::format("model.layers.{}.{}", l, row.hf_name),
                       std::move(shape), &(blocks_[static_cast<size_t>(l)].*row.target), row.init});
    }
  }
  for (Parameter& p : table) {
    if (p.name.ends_with("norm.weight")) p.hf.plus = style_.hf_norm_plus;
  }
  return table;
}

attention::HookMap Decoder::hooks() const {
  const std::span<const Site> plain = attention::HookMap::decoder_sites();
  std::vector<Site> sites(plain.begin(), plain.end());
  for (const DecoderRow& row : style_.rows) {
    if (row.target == &DecoderBlock::attn_post_norm)
      sites.insert(sites.end(), {Site::kLn1PostScale, Site::kLn1PostNormalized});
    if (row.target == &DecoderBlock::mlp_post_norm)
      sites.insert(sites.end(), {Site::kLn2PostScale, Site::kLn2PostNormalized});
  }
  std::sort(sites.begin(), sites.end());
  return attention::HookMap::decoder(cfg_.shape, sites);
}

Tensor Decoder::embed(const attention::Batch& batch, attention::Hooks& hook) const {
  Tensor x = tensor::embed(embed_, batch.tokens);  // [n_tokens, d_model]
  if (style_.embed_scale != 1) x = tensor::affine(x, style_.embed_scale);
  return hook(Site::kEmbed, kNoLayer, std::move(x));
}

Tensor Decoder::block(int l, Tensor x, attention::Attend& attend, attention::Hooks& hook) const {
  const DecoderBlock& w = blocks_[static_cast<size_t>(l)];
  const attention::AttentionShape a = cfg_.shape.site(l);
  x = hook(Site::kResidPre, l, std::move(x));
  const Tensor attn_in = branch(x, hook, Site::kAttnIn, l);
  Tensor h = norm(attn_in, w.attn_norm, cfg_.norm_eps, hook, l, Site::kLn1Scale, Site::kLn1Normalized);
  const AttentionInput input{attn_in, h, w.attn_norm, cfg_.norm_eps, hook, l};
  auto [q, k, v] = project_inputs(input, {{Site::kQInput, w.w_q, w.b_q, a.n_heads},    // [n_tokens, n_heads, k_dim]
                                          {Site::kKInput, w.w_k, w.b_k, a.n_k_heads},  // [n_tokens, n_k_heads, k_dim]
                                          {Site::kVInput, w.w_v, w.b_v, a.n_v_heads}});
  if (w.q_norm.defined()) q = rms_norm(q, w.q_norm, cfg_.norm_eps);
  if (w.k_norm.defined()) k = rms_norm(k, w.k_norm, cfg_.norm_eps);
  const Tensor z = attend(l, {std::move(q), std::move(k), std::move(v), attn_in, h});  // [n_tokens, n_heads, v_dim]
  x = add_attn_out(x, z, w.w_o, {w.attn_post_norm, cfg_.norm_eps}, hook, l);
  x = hook(Site::kResidMid, l, std::move(x));
  h = norm(branch(x, hook, Site::kMlpIn, l), w.mlp_norm, cfg_.norm_eps, hook, l, Site::kLn2Scale, Site::kLn2Normalized);
  h = gated(h, w.w_gate, w.w_up, style_.activation, hook, l);  // [n_tokens, d_ff]
  x = add_mlp_out(x, h, w.w_down, {w.mlp_post_norm, cfg_.norm_eps}, hook, l);
  return hook(Site::kResidPost, l, std::move(x));
}

Tensor Decoder::unembed(const Tensor& x, const attention::Batch& batch, attention::Hooks& hook) const {
  const tensor::Weight& lm_head = lm_head_.defined() ? lm_head_ : embed_;
  return models::unembed(x, batch, final_norm_, cfg_.norm_eps, lm_head, style_.logit_softcap, hook);
}

}  // namespace fovea::models
