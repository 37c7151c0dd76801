// Llama 1-3, SmolLM, Mistral without a window: pre-norm, RoPE, grouped-query attention, SwiGLU.
// Touvron et al., arXiv:2302.13971; grouped queries: Ainslie et al., arXiv:2305.13245.
#include "fovea/models/support/decoder.h"

namespace fovea::models {
namespace {

class Llama final : public Decoder {
 public:
  explicit Llama(const Config& config) : Decoder(config) {}
};
FOVEA_REGISTER_FAMILY(Llama, "llama",
                      decoder_keys({{"tensor_data_layout", FamilyKey::Use::kOnly, "Meta AI original pth"}}));

}  // namespace
}  // namespace fovea::models
