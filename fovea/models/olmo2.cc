// OLMo 2: no norm before attention and MLP but one behind each, and one of q and k over all heads at once.
// OLMo Team, arXiv:2501.00656.
#include "fovea/models/support/decoder.h"

namespace fovea::models {
namespace {

class Olmo2 final : public Decoder {
 public:
  static constexpr FamilyTraits kTraits{.models = "OLMo 2"};
  explicit Olmo2(const Config& config) : Decoder(config, {.rows = rows()}) {}

 private:
  using B = DecoderBlock;
  using enum Width;
  static std::vector<DecoderRow> rows() {
    const tensor::Init ones = tensor::Init::ones();
    return with_attention_biases(decoder_rows(
        {{"", "", {}, &B::attn_norm},
         {"", "", {}, &B::mlp_norm},
         {"attn_q_norm.weight", "self_attn.q_norm.weight", {kQ}, &B::q_norm, ones},
         {"attn_k_norm.weight", "self_attn.k_norm.weight", {kK}, &B::k_norm, ones},
         {"post_attention_norm.weight", "post_attention_layernorm.weight", {kModel}, &B::attn_post_norm, ones},
         {"post_ffw_norm.weight", "post_feedforward_layernorm.weight", {kModel}, &B::mlp_post_norm, ones}}));
  }
};
FOVEA_REGISTER_FAMILY(Olmo2, "olmo2", decoder_keys({{"attention_bias", FamilyKey::Use::kNote}}));

}  // namespace
}  // namespace fovea::models
