// ModernBERT: norms before attention and MLP (none before the first attention), a gated MLP with gelu, and windows that
// look both ways in all layers but every third, with angles of their own. Warner et al., arXiv:2412.13663.
#include "fovea/models/support/decoder.h"
#include "fovea/models/support/layers.h"

namespace fovea::models {
namespace {

class ModernBert final : public Decoder {
 public:
  static constexpr FamilyTraits kTraits{.models = "ModernBERT: vectors",
                                        .limits = "heads of other tasks",
                                        .activation = tensor::Activation::kGelu,
                                        .window_rope_base = 10000};
  explicit ModernBert(const Config& config)
      : Decoder(config,
                {.rows = rows(), .ends = ends(), .layer_norm = true, .first_norm = false, .makes_text = false}) {}
  static Status configure(const Keys& keys, Config& config) {
    const bool any = keys.has("attention.sliding_window");  // else all layers are full, and turn by the angles of those
    FOVEA_RETURN_IF_ERROR(
        read_windows(keys, config, [any](int layer) { return any && layer % 3 != 0; }, {.first_is_full = true}));
    // The size counts both sides.
    for (attention::AttentionShape& site : sites(config)) {
      if (site.window != INT_MAX) site.window = site.window / 2 + 1;
    }
    look_both_ways(config);
    return {};
  }

 private:
  using B = DecoderBlock;
  using E = DecoderEnds;
  using enum Width;
  static std::vector<DecoderRow> rows() {
    const tensor::Init drawn = tensor::Init::normal(0.02f), ones = tensor::Init::ones();
    const auto part = [&](const char* name, const char* hf, Width width, tensor::Weight B::*target, Held::Part of) {
      return DecoderRow{name, hf, {kModel, width}, target, drawn, false, {of}, {of}};
    };
    const auto qkv = [&](Width width, tensor::Weight B::*target, Held::Part of) {
      return part("attn_qkv.weight", "attn.Wqkv.weight", width, target, of);
    };
    const std::vector<DecoderRow> all =
        decoder_rows({{"attn_norm.weight", "attn_norm.weight", {kModel}, &B::attn_norm, ones},
                      qkv(kQ, &B::w_q, Held::Part::kQ),
                      qkv(kK, &B::w_k, Held::Part::kK),
                      qkv(kV, &B::w_v, Held::Part::kV),
                      {"attn_output.weight", "attn.Wo.weight", {kZ, kModel}, &B::w_o},
                      {"ffn_norm.weight", "mlp_norm.weight", {kModel}, &B::mlp_norm, ones},
                      part("ffn_up.weight", "mlp.Wi.weight", kMlp, &B::w_gate, Held::Part::kGate),
                      part("ffn_up.weight", "mlp.Wi.weight", kMlp, &B::w_up, Held::Part::kUp),
                      {"ffn_down.weight", "mlp.Wo.weight", {kMlp, kModel}, &B::w_down}});
    return with_biases(with_mlp_biases(with_attention_biases(all)),
                       {{&B::attn_norm, &B::b_attn_norm}, {&B::mlp_norm, &B::b_mlp_norm}}, /*optional=*/true);
  }
  static std::vector<EndRow> ends() {
    const tensor::Init ones = tensor::Init::ones(), zeros = tensor::Init::zeros();
    return {{"token_embd.weight", "model.embeddings.tok_embeddings.weight", {kModel, kVocab}, &E::embed},
            {"token_embd_norm.weight", "model.embeddings.norm.weight", {kModel}, &E::embed_norm, ones},
            {"token_embd_norm.bias", "model.embeddings.norm.bias", {kModel}, &E::b_embed_norm, zeros, true},
            {"output_norm.weight", "model.final_norm.weight", {kModel}, &E::final_norm, ones},
            {"output_norm.bias", "model.final_norm.bias", {kModel}, &E::b_final_norm, zeros, true}};
  }
};
FOVEA_REGISTER_FAMILY(ModernBert, "modern-bert",
                      with_windows(encoder_keys({{"hidden_act"},
                                                 {"rope.freq_base_swa"},
                                                 {"rope.scaling_swa.type"},
                                                 {"rope.scaling_swa.factor"},
                                                 {"attention_bias", FamilyKey::Use::kNote},  // they are there or not
                                                 {"mlp_bias", FamilyKey::Use::kNote},
                                                 {"norm_bias", FamilyKey::Use::kNote}})));

}  // namespace
}  // namespace fovea::models
