// Nomic BERT: BERT with angles in place of positions, a gated MLP and no biases but those of norms; q, k and v are one
// tensor. Nussbaum et al., arXiv:2402.01613.
#include "fovea/models/support/post_norm.h"

namespace fovea::models {
namespace {

class NomicBert final : public PostNormEncoder {
 public:
  static constexpr FamilyTraits kTraits{.models = "nomic-embed-text 1 and 1.5: vectors",
                                        .limits = "experts (version 2), angles that grow with the text",
                                        .activation = tensor::Activation::kSilu};
  explicit NomicBert(const Config& config)
      : PostNormEncoder(config, {.rows = rows(), .ends = ends(), .hf_block = "encoder.layers."}) {}
  static Status configure(const Keys& keys, Config& config) { return read_encoder(keys, config); }

 private:
  using B = DecoderBlock;
  using enum Width;
  static std::vector<DecoderRow> rows() {
    const tensor::Init drawn = tensor::Init::normal(0.02f), ones = tensor::Init::ones();
    const auto part = [&](Width width, tensor::Weight B::*target, Held::Part of) {
      return DecoderRow{"attn_qkv.weight", "attn.Wqkv.weight", {kModel, width}, target, drawn, false, {of}, {of}};
    };
    return with_biases(decoder_rows({part(kQ, &B::w_q, Held::Part::kQ),
                                     part(kK, &B::w_k, Held::Part::kK),
                                     part(kV, &B::w_v, Held::Part::kV),
                                     {"attn_output.weight", "attn.out_proj.weight", {kZ, kModel}, &B::w_o},
                                     {"attn_output_norm.weight", "norm1.weight", {kModel}, &B::attn_norm, ones},
                                     {"ffn_gate.weight", "mlp.fc12.weight", {kModel, kMlp}, &B::w_gate},
                                     {"ffn_up.weight", "mlp.fc11.weight", {kModel, kMlp}, &B::w_up},
                                     {"ffn_down.weight", "mlp.fc2.weight", {kMlp, kModel}, &B::w_down},
                                     {"layer_output_norm.weight", "norm2.weight", {kModel}, &B::mlp_norm, ones}}),
                       {{&B::attn_norm, &B::b_attn_norm}, {&B::mlp_norm, &B::b_mlp_norm}});
  }
  static std::vector<EndRow> ends() {
    return encoder_ends({"embeddings.word_embeddings.weight", "emb_ln.", "embeddings.token_type_embeddings.weight"});
  }
};
FOVEA_REGISTER_FAMILY(NomicBert, "nomic-bert", encoder_keys({{"type_vocab_size"}, {"hidden_act"}}));

}  // namespace
}  // namespace fovea::models
