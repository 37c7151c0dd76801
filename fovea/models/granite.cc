// Granite: Llama with multipliers of embeddings, scores, residual additions and logits. Granite Team, "Granite 3.0
// Language Models".
#include "fovea/models/support/decoder.h"
#include "fovea/models/support/layers.h"

namespace fovea::models {
namespace {

class Granite final : public Decoder {
 public:
  static constexpr FamilyTraits kTraits{.models = "Granite 3.0 to 3.3, the dense ones",
                                        .limits = "",
                                        .pairing = {.gguf = tensor::RopePairing::kAdjacent}};
  explicit Granite(const Config& config)
      : Decoder(config, {.rows = with_mlp_biases(with_attention_biases(decoder_rows()))}) {}
  static Status configure(const Keys& keys, Config& config) {
    constexpr double kLeast = 1e-6, kMost = 1e6;
    FOVEA_ASSIGN_OR_RETURN(const double embed, keys.number_or("embedding_scale", 1, kLeast, kMost));
    FOVEA_ASSIGN_OR_RETURN(const double residual, keys.number_or("residual_scale", 1, kLeast, kMost));
    FOVEA_ASSIGN_OR_RETURN(const double logits, keys.number_or("logit_scale", 1, kLeast, kMost));
    config.decoder.embed_scale = static_cast<float>(embed);
    config.decoder.residual_scale = static_cast<float>(residual);
    config.decoder.logit_scale = static_cast<float>(1 / logits);
    if (!keys.has("attention.scale")) return {};
    FOVEA_ASSIGN_OR_RETURN(const double scale, keys.number("attention.scale", kLeast, kMost));
    for (attention::AttentionShape& site : sites(config)) site.scale = static_cast<float>(scale);
    return {};
  }
};
FOVEA_REGISTER_FAMILY(Granite, "granite",
                      decoder_keys({{"embedding_scale"},
                                    {"residual_scale"},
                                    {"logit_scale"},
                                    {"attention.scale"},
                                    {"attention_bias", FamilyKey::Use::kNote},
                                    {"mlp_bias", FamilyKey::Use::kNote}}));

}  // namespace
}  // namespace fovea::models
