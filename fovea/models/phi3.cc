// Phi 3, 3.5 and 4: Llama with q, k and v as one matrix and gate and up as another, LongRoPE, partial rotation, and in
// some a window. Abdin et al., arXiv:2404.14219.
#include "fovea/models/support/decoder.h"
#include "fovea/models/support/layers.h"

namespace fovea::models {
namespace {

class Phi3 final : public Decoder {
 public:
  static constexpr FamilyTraits kTraits{
      .models = "Phi-3, Phi-3.5, Phi-4, Phi-4-mini",
      .limits = "a text that begins with the angles of short contexts does not go on with those of long ones"};
  explicit Phi3(const Config& config) : Decoder(config, {.rows = rows()}) {}
  static Status configure(const Keys& keys, Config& config) { return read_windows(keys, config); }

 private:
  using B = DecoderBlock;
  using enum Width;
  static std::vector<DecoderRow> rows() {
    using enum Held::Part;
    const tensor::Init drawn = tensor::Init::normal(0.02f);
    const auto part = [&](std::string name, std::string hf_name, Width width, tensor::Weight B::*target,
                          Held::Part of) {
      return DecoderRow{std::move(name), std::move(hf_name), {kModel, width}, target, drawn, false, {of}, {of}};
    };
    const std::string qkv = "attn_qkv.weight", hf_qkv = "self_attn.qkv_proj.weight";
    const std::string up = "ffn_up.weight", hf_up = "mlp.gate_up_proj.weight";
    return decoder_rows({part(qkv, hf_qkv, Width::kQ, &B::w_q, Held::Part::kQ),
                         part(qkv, hf_qkv, Width::kK, &B::w_k, Held::Part::kK),
                         part(qkv, hf_qkv, Width::kV, &B::w_v, Held::Part::kV),
                         part(up, hf_up, kMlp, &B::w_gate, kGate), part(up, hf_up, kMlp, &B::w_up, kUp)});
  }
};
FOVEA_REGISTER_FAMILY(Phi3, "phi3", with_windows(decoder_keys({{"attention_bias", FamilyKey::Use::kOnly, "false"}})));

}  // namespace
}  // namespace fovea::models
