// Qwen3: Llama with an rms norm of every head's q and k, heads of a width of their own, and in some windows.
// Yang et al., arXiv:2505.09388.
#include "fovea/models/support/decoder.h"
#include "fovea/models/support/layers.h"

namespace fovea::models {
namespace {

class Qwen3 final : public Decoder {
 public:
  static constexpr FamilyTraits kTraits{.models = "Qwen3 dense models"};
  explicit Qwen3(const Config& config) : Decoder(config, {.rows = rows()}) {}
  static Status configure(const Keys& keys, Config& config) {
    const int n_layers = config.shape.n_layers;
    FOVEA_ASSIGN_OR_RETURN(const int64_t first, keys.size_or("max_window_layers", n_layers, 0, INT_MAX));
    return read_windows(keys, config, [first](int layer) { return layer >= first; });
  }

 private:
  static std::vector<DecoderRow> rows() { return with_attention_biases(with_head_norms(decoder_rows())); }
};
FOVEA_REGISTER_FAMILY(Qwen3, "qwen3",
                      with_windows(decoder_keys({{"max_window_layers"}, {"attention_bias", FamilyKey::Use::kNote}})));

}  // namespace
}  // namespace fovea::models
