// GPT-2: layer norms, learned positions, gelu, biases everywhere; Hugging Face's files hold its matrices transposed and
// q, k and v as one. Radford et al., "Language Models are Unsupervised Multitask Learners".
#include "fovea/models/support/decoder.h"
#include "fovea/models/support/layers.h"

namespace fovea::models {
namespace {

class Gpt2 final : public Decoder {
 public:
  static constexpr FamilyTraits kTraits{.models = "GPT-2, DistilGPT-2",
                                        .limits = "texts longer than its table of positions",
                                        .activation = tensor::Activation::kGeluTanh};
  explicit Gpt2(const Config& config)
      : Decoder(config, {.rows = rows(), .ends = ends(), .hf_block = "transformer.h.", .layer_norm = true}) {}
  static Status configure(const Keys&, Config& config) {
    use_learned_positions(config);
    return {};
  }

 private:
  using B = DecoderBlock;
  using E = DecoderEnds;
  using enum Width;
  static std::vector<DecoderRow> rows() {
    const tensor::Init drawn = tensor::Init::normal(0.02f), ones = tensor::Init::ones();
    const auto part = [&](Width width, tensor::Weight B::*target, Held::Part of) {
      return DecoderRow{"attn_qkv.weight",        "attn.c_attn.weight", {kModel, width}, target, drawn, false, {of},
                        {of, /*transposed=*/true}};
    };
    const Held turned{.transposed = true};
    return with_all_biases(
        decoder_rows({{"attn_norm.weight", "ln_1.weight", {kModel}, &B::attn_norm, ones},
                      part(kQ, &B::w_q, Held::Part::kQ),
                      part(kK, &B::w_k, Held::Part::kK),
                      part(kV, &B::w_v, Held::Part::kV),
                      {"attn_output.weight", "attn.c_proj.weight", {kZ, kModel}, &B::w_o, drawn, false, {}, turned},
                      {"ffn_norm.weight", "ln_2.weight", {kModel}, &B::mlp_norm, ones},
                      {"", "", {}, &B::w_gate},
                      {"ffn_up.weight", "mlp.c_fc.weight", {kModel, kMlp}, &B::w_up, drawn, false, {}, turned},
                      {"ffn_down.weight", "mlp.c_proj.weight", {kMlp, kModel}, &B::w_down, drawn, false, {}, turned}}));
  }
  static std::vector<EndRow> ends() {
    return decoder_ends(
        {{"token_embd.weight", "transformer.wte.weight", {kModel, kVocab}, &E::embed},
         {"position_embd.weight", "transformer.wpe.weight", {kModel, kPositions}, &E::pos_embed},
         {"output_norm.weight", "transformer.ln_f.weight", {kModel}, &E::final_norm, tensor::Init::ones()},
         {"output_norm.bias", "transformer.ln_f.bias", {kModel}, &E::b_final_norm, tensor::Init::zeros()}});
  }
};
FOVEA_REGISTER_FAMILY(Gpt2, "gpt2", without_rope(layer_norm_keys()));

}  // namespace
}  // namespace fovea::models
