// Qwen3 with experts: Qwen3 with a mixture in place of the MLP. Yang et al., arXiv:2505.09388.
#include "fovea/models/support/experts.h"
#include "fovea/models/support/layers.h"

namespace fovea::models {
namespace {

class Qwen3Moe final : public Decoder {
 public:
  static constexpr FamilyTraits kTraits{.models = "Qwen3-30B-A3B, Qwen3-235B-A22B and others of their form"};
  explicit Qwen3Moe(const Config& config) : Decoder(config, style()) {}
  static Status configure(const Keys& keys, Config& config) {
    FOVEA_RETURN_IF_ERROR(read_windows(keys, config));
    return read_experts(keys, config, /*normalized=*/true);
  }

 private:
  static DecoderStyle style() {
    return with_expert_rows({.rows = with_attention_biases(with_head_norms(decoder_rows()))},
                            {.router = "mlp.gate.weight",
                             .gate = "mlp.experts.*.gate_proj.weight",
                             .up = "mlp.experts.*.up_proj.weight",
                             .down = "mlp.experts.*.down_proj.weight"});
  }
};
FOVEA_REGISTER_FAMILY(Qwen3Moe, "qwen3moe",
                      with_windows(with_experts(decoder_keys({{"attention_bias", FamilyKey::Use::kNote},
                                                              {"max_window_layers", FamilyKey::Use::kNote}}))));

}  // namespace
}  // namespace fovea::models
