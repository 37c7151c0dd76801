// Qwen2, Qwen2.5 and its coders: Llama with biases on q, k and v. Yang et al., arXiv:2407.10671.
#include <fmt/core.h>

#include <utility>

#include "fovea/models/family.h"
#include "fovea/models/support/blocks.h"
#include "fovea/tensor/ops/ops.h"

namespace fovea::models {
namespace {

using attention::kNoLayer;
using attention::Site;
using tensor::Init;
using tensor::Parameter;
using tensor::Tensor;
using tensor::Weight;

class Qwen2 final : public Family {
 public:
  explicit Qwen2(const Config& config) : cfg_(config), blocks_(static_cast<size_t>(config.shape.n_layers)) {}

  const Config& config() const override { return cfg_; }

  std::vector<Parameter> weights() override {
    const auto& s = cfg_.shape;
    const int64_t d = s.d_model, ff = s.d_ff, q = int64_t{s.n_heads} * s.head_dim,
                  kv = int64_t{s.n_kv_heads} * s.head_dim;
    std::vector<Parameter> table = {{"token_embd.weight", "model.embed_tokens.weight", {d, s.vocab_size}, &embed_},
                                    {"output_norm.weight", "model.norm.weight", {d}, &final_norm_, Init::ones()},
                                    {"output.weight",
                                     "lm_head.weight",
                                     {d, s.vocab_size},
                                     &lm_head_,
                                     Init::normal(0.02f),
                                     true}};  // tied if absent
    for (int l = 0; l < s.n_layers; ++l) {
      Block& w = blocks_[static_cast<size_t>(l)];
      const std::string at = fmt::format("blk.{}.", l), hf = fmt::format("model.layers.{}.", l);
      table.push_back({at + "attn_norm.weight", hf + "input_layernorm.weight", {d}, &w.attn_norm, Init::ones()});
      table.push_back({at + "attn_q.weight", hf + "self_attn.q_proj.weight", {d, q}, &w.w_q});
      table.push_back({at + "attn_k.weight", hf + "self_attn.k_proj.weight", {d, kv}, &w.w_k});
      table.push_back({at + "attn_v.weight", hf + "self_attn.v_proj.weight", {d, kv}, &w.w_v});
      table.push_back({at + "attn_q.bias", hf + "self_attn.q_proj.bias", {q}, &w.b_q, Init::zeros()});
      table.push_back({at + "attn_k.bias", hf + "self_attn.k_proj.bias", {kv}, &w.b_k, Init::zeros()});
      table.push_back({at + "attn_v.bias", hf + "self_attn.v_proj.bias", {kv}, &w.b_v, Init::zeros()});
      table.push_back({at + "attn_output.weight", hf + "self_attn.o_proj.weight", {q, d}, &w.w_o});
      table.push_back({at + "ffn_norm.weight", hf + "post_attention_layernorm.weight", {d}, &w.mlp_norm, Init::ones()});
      table.push_back({at + "ffn_gate.weight", hf + "mlp.gate_proj.weight", {d, ff}, &w.w_gate});
      table.push_back({at + "ffn_up.weight", hf + "mlp.up_proj.weight", {d, ff}, &w.w_up});
      table.push_back({at + "ffn_down.weight", hf + "mlp.down_proj.weight", {ff, d}, &w.w_down});
    }
    return table;
  }

  Tensor forward(const attention::Batch& in, attention::Attend& attend, attention::Hooks& hook) const override {
    const auto& s = cfg_.shape;
    Tensor x = hook(Site::kEmbed, kNoLayer, embed(embed_, in.tokens));  // [n_tokens, d_model]
    for (int l = 0; l < s.n_layers; ++l) {
      const Block& w = blocks_[static_cast<size_t>(l)];
      x = hook(Site::kResidPre, l, x);
      const Tensor attn_in = branch(x, hook, Site::kAttnIn, l);
      Tensor h = norm(attn_in, w.attn_norm, cfg_.norm_eps, hook, l, Site::kLn1Scale, Site::kLn1Normalized);
      const AttentionInput input{attn_in, h, w.attn_norm, cfg_.norm_eps, hook, l};
      auto [q, k, v] =
          project_inputs(input, {{Site::kQInput, w.w_q, w.b_q, s.n_heads},     // [n_tokens, n_heads, head_dim]
                                 {Site::kKInput, w.w_k, w.b_k, s.n_kv_heads},  // [n_tokens, n_kv_heads, head_dim]
                                 {Site::kVInput, w.w_v, w.b_v, s.n_kv_heads}});
      Tensor z = attend(l, std::move(q), std::move(k), std::move(v));
      x = add_attn_out(x, z, w.w_o, hook, l);
      x = hook(Site::kResidMid, l, x);
      h = norm(branch(x, hook, Site::kMlpIn, l), w.mlp_norm, cfg_.norm_eps, hook, l, Site::kLn2Scale,
               Site::kLn2Normalized);
      h = gated(h, w.w_gate, w.w_up, hook, l);  // [n_tokens, d_ff]
      x = add_mlp_out(x, h, w.w_down, hook, l);
      x = hook(Site::kResidPost, l, x);
    }
    return unembed(x, in, final_norm_, cfg_.norm_eps, lm_head_.defined() ? lm_head_ : embed_, hook);
  }

 private:
  struct Block {
    Weight b_q, b_k, b_v;
    Weight attn_norm, w_q, w_k, w_v, w_o, mlp_norm, w_gate, w_up, w_down;
  };

  Config cfg_;
  Weight embed_, final_norm_, lm_head_;
  std::vector<Block> blocks_;
};
FOVEA_REGISTER_FAMILY(Qwen2, "qwen2", decoder_keys());

}  // namespace
}  // namespace fovea::models
