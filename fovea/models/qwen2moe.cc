// Qwen1.5-MoE and Qwen2-57B-A14B: Qwen2 with experts in place of the MLP, and beside them one that every token goes to,
// weighed by a gate of its own. Yang et al., arXiv:2407.10671.
#include "fovea/models/support/experts.h"
#include "fovea/models/support/layers.h"

namespace fovea::models {
namespace {

class Qwen2Moe final : public Decoder {
 public:
  static constexpr FamilyTraits kTraits{.models = "Qwen1.5-MoE, Qwen2 with experts"};
  explicit Qwen2Moe(const Config& config) : Decoder(config, style()) {}
  static Status configure(const Keys& keys, Config& config) {
    FOVEA_ASSIGN_OR_RETURN(const int64_t end, keys.size_or("max_window_layers", 28, 0, INT_MAX));
    FOVEA_RETURN_IF_ERROR(read_windows(keys, config, [end](int layer) { return layer % 2 == 0 && layer < end; }));
    return read_experts(keys, config, /*normalized=*/false);
  }

 private:
  using B = DecoderBlock;
  using enum Width;
  static DecoderStyle style() {
    DecoderStyle style = with_expert_rows(
        {.rows = with_biases(decoder_rows(), {{&B::w_q, &B::b_q}, {&B::w_k, &B::b_k}, {&B::w_v, &B::b_v}},
                             /*optional=*/true)},
        {.router = "mlp.gate.weight",
         .gate = "mlp.experts.*.gate_proj.weight",
         .up = "mlp.experts.*.up_proj.weight",
         .down = "mlp.experts.*.down_proj.weight"});
    style.router_rows.insert(
        style.router_rows.end(),
        {{"ffn_gate_shexp.weight", "mlp.shared_expert.gate_proj.weight", {kModel, kSharedMlp}, &B::w_shared_gate},
         {"ffn_up_shexp.weight", "mlp.shared_expert.up_proj.weight", {kModel, kSharedMlp}, &B::w_shared_up},
         {"ffn_down_shexp.weight", "mlp.shared_expert.down_proj.weight", {kSharedMlp, kModel}, &B::w_shared_down},
         {.name = "ffn_gate_inp_shexp.weight",
          .hf_name = "mlp.shared_expert_gate.weight",
          .shape = {kModel},
          .target = &B::w_shared_router,
          .hf = {.one_row = true}}});
    return style;
  }
};
FOVEA_REGISTER_FAMILY(Qwen2Moe, "qwen2moe",
                      with_windows(with_experts(decoder_keys({{"expert_shared_feed_forward_length"},
                                                              {"max_window_layers"},
                                                              {"qkv_bias", FamilyKey::Use::kNote}}))));

}  // namespace
}  // namespace fovea::models
