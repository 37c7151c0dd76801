// StarCoder 2: layer norms, gelu, biases everywhere, grouped queries, a window in every layer. Lozhkov et al.,
// arXiv:2402.19173.
#include "fovea/models/support/decoder.h"
#include "fovea/models/support/layers.h"

namespace fovea::models {
namespace {

class StarCoder2 final : public Decoder {
 public:
  static constexpr FamilyTraits kTraits{.models = "StarCoder2", .activation = tensor::Activation::kGeluTanh};
  explicit StarCoder2(const Config& config) : Decoder(config, {.rows = rows(), .ends = ends(), .layer_norm = true}) {}
  static Status configure(const Keys& keys, Config& config) { return read_windows(keys, config); }

 private:
  using B = DecoderBlock;
  using E = DecoderEnds;
  using enum Width;
  static std::vector<DecoderRow> rows() {
    const auto norms = with_biases(decoder_rows({{"", "", {}, &B::w_gate},
                                                 {"ffn_up.weight", "mlp.c_fc.weight", {kModel, kMlp}, &B::w_up},
                                                 {"ffn_down.weight", "mlp.c_proj.weight", {kMlp, kModel}, &B::w_down}}),
                                   {{&B::attn_norm, &B::b_attn_norm}, {&B::mlp_norm, &B::b_mlp_norm}});
    return with_biases(with_attention_biases(norms), {{&B::w_up, &B::b_up}, {&B::w_down, &B::b_down}},
                       /*optional=*/true);
  }
  static std::vector<EndRow> ends() {
    return decoder_ends({{"output_norm.bias", "model.norm.bias", {kModel}, &E::b_final_norm, tensor::Init::zeros()}});
  }
};
FOVEA_REGISTER_FAMILY(StarCoder2, "starcoder2",
                      with_windows(layer_norm_keys({{"use_bias",
                                                     FamilyKey::Use::kNote}})));  // they are there, or are not

}  // namespace
}  // namespace fovea::models
