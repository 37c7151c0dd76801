// Phi 1, 1.5 and 2: one layer norm before attention and MLP side by side, partial rotation, gelu, biases everywhere.
// Li et al., arXiv:2309.05463.
#include "fovea/models/support/decoder.h"

namespace fovea::models {
namespace {

class Phi2 final : public Decoder {
 public:
  static constexpr FamilyTraits kTraits{.models = "Phi-1, Phi-1.5, Phi-2",
                                        .limits = "norms of q and k (qk_layernorm)",
                                        .activation = tensor::Activation::kGeluTanh};
  explicit Phi2(const Config& config) : Decoder(config, {.rows = rows(), .ends = ends(), .layer_norm = true}) {}
  static Status configure(const Keys&, Config& config) {
    config.decoder.parallel = true;
    return {};
  }

 private:
  using B = DecoderBlock;
  using E = DecoderEnds;
  using enum Width;
  static std::vector<DecoderRow> rows() {
    return with_all_biases(decoder_rows({{"attn_output.weight", "self_attn.dense.weight", {kZ, kModel}, &B::w_o},
                                         {"", "", {}, &B::mlp_norm},
                                         {"", "", {}, &B::w_gate},
                                         {"ffn_up.weight", "mlp.fc1.weight", {kModel, kMlp}, &B::w_up},
                                         {"ffn_down.weight", "mlp.fc2.weight", {kMlp, kModel}, &B::w_down}}));
  }
  static std::vector<EndRow> ends() {
    const tensor::Init zeros = tensor::Init::zeros();
    return decoder_ends(
        {{"output_norm.weight", "model.final_layernorm.weight", {kModel}, &E::final_norm, tensor::Init::ones()},
         {"output_norm.bias", "model.final_layernorm.bias", {kModel}, &E::b_final_norm, zeros},
         {"output.bias", "lm_head.bias", {kVocab}, &E::b_lm_head, zeros}});
  }
};
FOVEA_REGISTER_FAMILY(Phi2, "phi2", layer_norm_keys());

}  // namespace
}  // namespace fovea::models
