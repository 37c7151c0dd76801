#include "fovea/models/support/gemma_rows.h"

#include <cmath>

namespace fovea::models {

std::vector<DecoderRow> sandwich_rows() {
  using enum Width;
  using B = DecoderBlock;
  const tensor::Init ones = tensor::Init::ones();
  return decoder_rows(
      {{"ffn_norm.weight", "pre_feedforward_layernorm.weight", {kModel}, &B::mlp_norm, ones},
       {"post_attention_norm.weight", "post_attention_layernorm.weight", {kModel}, &B::attn_post_norm, ones},
       {"post_ffw_norm.weight", "post_feedforward_layernorm.weight", {kModel}, &B::mlp_post_norm, ones}});
}

void scale_embeddings(Config& config) {
  config.decoder.embed_scale = std::sqrt(static_cast<float>(config.shape.d_model));
}

std::vector<FamilyKey> gemma_keys(std::initializer_list<FamilyKey> more) {
  std::vector<FamilyKey> keys = with_windows(decoder_keys(
      {{"query_pre_attn_scalar"}, {"final_logit_softcapping"}, {"attention_bias", FamilyKey::Use::kOnly, "false"}}));
  keys.insert(keys.end(), more.begin(), more.end());
  return keys;
}

Status read_query_scale(const Keys& keys, Config& config, int layers_of_27b) {
  const attention::ModelShape& s = config.shape;
  const double otherwise =
      s.n_layers == layers_of_27b ? static_cast<double>(s.d_model) / s.n_heads : static_cast<double>(s.head_dim);
  FOVEA_ASSIGN_OR_RETURN(const double scalar, keys.number_or("query_pre_attn_scalar", otherwise, 1e-6, 1e6));
  for (attention::AttentionShape& site : sites(config)) site.scale = static_cast<float>(1 / std::sqrt(scalar));
  return {};
}

Status read_soft_caps(const Keys& keys, Config& config, const SoftCaps& otherwise) {
  constexpr double kLeast = 1e-3, kMost = 1e6;
  const auto read = [&](std::string_view key, double cap) -> Result<double> {
    if (!keys.lists(key)) return 0.0;
    if (const auto none = keys.source().get_bool(keys.name(key)); none && !*none) return 0.0;
    return keys.number_or(key, cap, kLeast, kMost);
  };
  FOVEA_ASSIGN_OR_RETURN(const double scores, read("attn_logit_softcapping", otherwise.scores));
  FOVEA_ASSIGN_OR_RETURN(const double logits, read("final_logit_softcapping", otherwise.logits));
  for (attention::AttentionShape& site : sites(config)) site.softcap = static_cast<float>(scores);
  config.decoder.logit_softcap = static_cast<float>(logits);
  return {};
}

}  // namespace fovea::models
