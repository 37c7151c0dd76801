// gpt-oss: experts with clamped SwiGLU, a sink in the softmax of every head, a window in every other layer, biases on
// all projections. OpenAI, arXiv:2508.10925.
#include "fovea/models/support/experts.h"
#include "fovea/models/support/layers.h"

namespace fovea::models {
namespace {

class GptOss final : public Decoder {
 public:
  static constexpr FamilyTraits kTraits{.models = "gpt-oss 20B and 120B",
                                        .limits = "other gains or limits of the activation than 1.702 and 7",
                                        .activation = tensor::Activation::kClampedSwiglu,
                                        .yarn_truncates = false};
  explicit GptOss(const Config& config) : Decoder(config, style()) {}
  static Status configure(const Keys& keys, Config& config) {
    FOVEA_RETURN_IF_ERROR(read_windows(keys, config, [](int layer) { return layer % 2 == 0; }));
    return read_experts(keys, config, /*normalized=*/true);
  }

 private:
  using B = DecoderBlock;
  using E = tensor::Expert;
  using enum Width;
  static DecoderStyle style() {
    const tensor::Init zeros = tensor::Init::zeros();
    DecoderStyle style{.rows = with_attention_biases(
                           decoder_rows({{"post_attention_norm.weight",
                                          "post_attention_layernorm.weight",
                                          {kModel},
                                          &B::mlp_norm,
                                          tensor::Init::ones()},
                                         {"attn_sinks.weight", "self_attn.sinks", {kHeads}, &B::sinks, zeros}}))};
    style.router_rows = {{"ffn_gate_inp.weight", "mlp.router.weight", {kModel, kExperts}, &B::w_router},
                         {"ffn_gate_inp.bias", "mlp.router.bias", {kExperts}, &B::b_router, zeros}};
    // Folders hold gate and up as one, the columns of either in turn; as MXFP4 blocks they are rows.
    const auto matrix = [](std::string name, const std::string& hf_name, std::array<Width, 2> shape,
                           tensor::Weight E::*target, Held::Part part) {
      return ExpertRow{.name = std::move(name),
                       .hf_name = hf_name,
                       .shape = shape,
                       .target = target,
                       .hf = {.part = part, .transposed = true},
                       .hf_packed_name = hf_name + "_blocks",
                       .hf_packed = {.part = part}};
    };
    const auto bias = [&](std::string name, std::string hf_name, Width width, tensor::Weight E::*target,
                          Held::Part part) {
      return ExpertRow{.name = std::move(name),
                       .hf_name = std::move(hf_name),
                       .shape = {width},
                       .target = target,
                       .init = zeros,
                       .hf = {.part = part}};
    };
    using enum Held::Part;
    const std::string both = "mlp.experts.gate_up_proj", down = "mlp.experts.down_proj";
    style.expert_rows = {matrix("ffn_gate_exps.weight", both, {kModel, kExpertMlp}, &E::w_gate, kEvenRows),
                         matrix("ffn_up_exps.weight", both, {kModel, kExpertMlp}, &E::w_up, kOddRows),
                         matrix("ffn_down_exps.weight", down, {kExpertMlp, kModel}, &E::w_down, kWhole),
                         bias("ffn_gate_exps.bias", both + "_bias", kExpertMlp, &E::b_gate, kEvenRows),
                         bias("ffn_up_exps.bias", both + "_bias", kExpertMlp, &E::b_up, kOddRows),
                         bias("ffn_down_exps.bias", down + "_bias", kModel, &E::b_down, kWhole)};
    return style;
  }
};
FOVEA_REGISTER_FAMILY(GptOss, "gpt-oss",
                      with_windows(with_experts(decoder_keys({{"hidden_act", FamilyKey::Use::kOnly,
                                                               "silu"},  // what it says is not what is done
                                                              {"attention_bias", FamilyKey::Use::kNote}}))));

}  // namespace
}  // namespace fovea::models
