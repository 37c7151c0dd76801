// GPT-NeoX and Pythia: layer norms, attention and MLP side by side, partial rotation, biases everywhere; Hugging Face's
// files hold q, k and v of head after head. Black et al., arXiv:2204.06745; Biderman et al., arXiv:2304.01373.
#include "fovea/models/support/decoder.h"

namespace fovea::models {
namespace {

class GptNeoX final : public Decoder {
 public:
  static constexpr FamilyTraits kTraits{.models = "Pythia, GPT-NeoX-20B, Dolly 2, RedPajama-INCITE",
                                        .limits = "",
                                        .activation = tensor::Activation::kGelu};
  explicit GptNeoX(const Config& config)
      : Decoder(config, {.rows = rows(), .ends = ends(), .hf_block = "gpt_neox.layers.", .layer_norm = true}) {}
  static Status configure(const Keys& keys, Config& config) {
    FOVEA_ASSIGN_OR_RETURN(config.decoder.parallel, keys.flag_or("use_parallel_residual", true));
    return {};
  }

 private:
  using B = DecoderBlock;
  using E = DecoderEnds;
  using enum Width;
  static std::vector<DecoderRow> rows() {
    const tensor::Init drawn = tensor::Init::normal(0.02f), ones = tensor::Init::ones();
    const auto part = [&](Width width, tensor::Weight B::*target, Held::Part gguf, Held::Part hf) {
      return DecoderRow{
          "attn_qkv.weight", "attention.query_key_value.weight", {kModel, width}, target, drawn, false, {gguf}, {hf}};
    };
    return with_all_biases(decoder_rows({{"attn_norm.weight", "input_layernorm.weight", {kModel}, &B::attn_norm, ones},
                                         part(kQ, &B::w_q, Held::Part::kQ, Held::Part::kHeadQ),
                                         part(kK, &B::w_k, Held::Part::kK, Held::Part::kHeadK),
                                         part(kV, &B::w_v, Held::Part::kV, Held::Part::kHeadV),
                                         {"attn_output.weight", "attention.dense.weight", {kZ, kModel}, &B::w_o},
                                         {"", "", {}, &B::w_gate},
                                         {"ffn_up.weight", "mlp.dense_h_to_4h.weight", {kModel, kMlp}, &B::w_up},
                                         {"ffn_down.weight", "mlp.dense_4h_to_h.weight", {kMlp, kModel}, &B::w_down}}));
  }
  static std::vector<EndRow> ends() {
    const tensor::Init drawn = tensor::Init::normal(0.02f);
    return decoder_ends(
        {{"token_embd.weight", "gpt_neox.embed_in.weight", {kModel, kVocab}, &E::embed},
         {"output_norm.weight", "gpt_neox.final_layer_norm.weight", {kModel}, &E::final_norm, tensor::Init::ones()},
         {"output_norm.bias", "gpt_neox.final_layer_norm.bias", {kModel}, &E::b_final_norm, tensor::Init::zeros()},
         {"output.weight", "embed_out.weight", {kModel, kVocab}, &E::lm_head, drawn, /*optional=*/true}});
  }
};
FOVEA_REGISTER_FAMILY(GptNeoX, "gptneox",
                      layer_norm_keys({{"use_parallel_residual"}, {"attention_bias", FamilyKey::Use::kOnly, "true"}}));

}  // namespace
}  // namespace fovea::models
