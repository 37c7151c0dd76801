// SmolLM3: Llama in which every fourth layer is not told of positions. Hugging Face, "SmolLM3"; NoPE: Yang et al.,
// arXiv:2501.18795.
#include "fovea/models/support/decoder.h"
#include "fovea/models/support/layers.h"

namespace fovea::models {
namespace {

class SmolLm3 final : public Decoder {
 public:
  static constexpr FamilyTraits kTraits{
      .models = "SmolLM3", .limits = "", .pairing = {.gguf = tensor::RopePairing::kAdjacent}};
  explicit SmolLm3(const Config& config)
      : Decoder(config, {.rows = with_mlp_biases(with_attention_biases(decoder_rows()))}) {}
  static Status configure(const Keys& keys, Config& config) {
    FOVEA_RETURN_IF_ERROR(read_no_rope_layers(keys, config, /*interval=*/4));
    return read_windows(keys, config, [&config](int layer) {
      return config.shape.site(layer).rope == attention::AttentionShape::kNoRope;
    });
  }
};
FOVEA_REGISTER_FAMILY(SmolLm3, "smollm3",
                      with_windows(decoder_keys({{"no_rope_layers"},
                                                 {"no_rope_layer_interval"},
                                                 {"attention_bias", FamilyKey::Use::kNote},
                                                 {"mlp_bias", FamilyKey::Use::kNote},
                                                 {"max_window_layers", FamilyKey::Use::kNote}})));

}  // namespace
}  // namespace fovea::models
