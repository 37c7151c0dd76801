// Gemma: scaled embeddings, gelu gates, weights of norms held less 1, wide heads. Gemma Team, arXiv:2403.08295.
#include "fovea/models/support/gemma_rows.h"

namespace fovea::models {
namespace {

class Gemma final : public Decoder {
 public:
  static constexpr FamilyTraits kTraits{.models = "Gemma 1, CodeGemma", .activation = tensor::Activation::kGeluTanh};
  explicit Gemma(const Config& config) : Decoder(config, {.hf_norm_plus = 1}) {}
  static Status configure(const Keys&, Config& config) {
    scale_embeddings(config);
    return {};
  }
};
FOVEA_REGISTER_FAMILY(Gemma, "gemma", decoder_keys({{"attention_bias", FamilyKey::Use::kOnly, "false"}}));

}  // namespace
}  // namespace fovea::models
