// Mistral: Llama with a window in every layer. Jiang et al., arXiv:2310.06825.
#include "fovea/models/support/decoder.h"
#include "fovea/models/support/layers.h"

namespace fovea::models {
namespace {

class Mistral final : public Decoder {
 public:
  static constexpr FamilyTraits kTraits{.models = "Mistral 7B 0.1 to 0.3, Mistral Nemo, Small and others of their form",
                                        .limits = "",
                                        .pairing = {.gguf = tensor::RopePairing::kAdjacent}};
  explicit Mistral(const Config& config) : Decoder(config) {}
  static Status configure(const Keys& keys, Config& config) { return read_windows(keys, config); }
};
FOVEA_REGISTER_FAMILY(Mistral, "mistral", with_windows(decoder_keys()));

}  // namespace
}  // namespace fovea::models
