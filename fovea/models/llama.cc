// Llama: pre-norm, RoPE, grouped-query attention, SwiGLU.
// Touvron et al., arXiv:2302.13971; grouped queries: Ainslie et al., arXiv:2305.13245.
#include "fovea/models/support/decoder.h"

namespace fovea::models {
namespace {

class Llama final : public Decoder {
 public:
  static constexpr FamilyTraits kTraits{.models = "Llama 1 to 3.x, SmolLM, SmolLM2, TinyLlama and others of their form",
                                        .limits = "",
                                        .pairing = {.gguf = tensor::RopePairing::kAdjacent}};
  explicit Llama(const Config& config)
      : Decoder(config, {.rows = with_mlp_biases(with_attention_biases(decoder_rows()))}) {}
};
FOVEA_REGISTER_FAMILY(Llama, "llama",
                      decoder_keys({{"attention_bias", FamilyKey::Use::kNote},  // the biases are there, or are not
                                    {"mlp_bias", FamilyKey::Use::kNote},
                                    {"tensor_data_layout", FamilyKey::Use::kOnly, "Meta AI original pth"}}));

}  // namespace
}  // namespace fovea::models
