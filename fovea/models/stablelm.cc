// StableLM 2 and StableLM 3B: Llama with layer norms, partial rotation, and in some biases of q, k and v.
// Bellagente et al., arXiv:2402.17834.
#include "fovea/models/support/decoder.h"

namespace fovea::models {
namespace {

class StableLm final : public Decoder {
 public:
  static constexpr FamilyTraits kTraits{.models = "StableLM 3B 4E1T, StableLM 2 1.6B, Stable Code 3B",
                                        .limits = "norms of single heads (qk_layernorm: StableLM 2 12B)"};
  explicit StableLm(const Config& config)
      : Decoder(config, {.rows = rows(config.decoder.parallel), .ends = ends(), .layer_norm = true}) {}
  static Status configure(const Keys& keys, Config& config) {
    FOVEA_ASSIGN_OR_RETURN(config.decoder.parallel, keys.flag_or("use_parallel_residual", false));
    return {};
  }

 private:
  using B = DecoderBlock;
  using E = DecoderEnds;
  using enum Width;
  // With attention and MLP side by side one norm serves both.
  static std::vector<DecoderRow> rows(bool parallel) {
    const auto projections =
        with_biases(decoder_rows(), {{&B::w_q, &B::b_q}, {&B::w_k, &B::b_k}, {&B::w_v, &B::b_v}}, /*optional=*/true);
    auto all = with_biases(projections, {{&B::attn_norm, &B::b_attn_norm}, {&B::mlp_norm, &B::b_mlp_norm}});
    std::erase_if(all, [&](const DecoderRow& row) {
      return parallel && (row.target == &B::mlp_norm || row.target == &B::b_mlp_norm);
    });
    return all;
  }
  static std::vector<EndRow> ends() {
    return decoder_ends({{"output_norm.bias", "model.norm.bias", {kModel}, &E::b_final_norm, tensor::Init::zeros()}});
  }
};
FOVEA_REGISTER_FAMILY(StableLm, "stablelm",
                      layer_norm_keys({{"use_parallel_residual"}, {"use_qkv_bias", FamilyKey::Use::kNote}}));

}  // namespace
}  // namespace fovea::models
