// Qwen2, Qwen2.5 and its coders: Llama with biases on q, k and v, and in some a window above the first layers.
// Yang et al., arXiv:2407.10671.
#include "fovea/models/support/decoder.h"
#include "fovea/models/support/layers.h"

namespace fovea::models {
namespace {

class Qwen2 final : public Decoder {
 public:
  static constexpr FamilyTraits kTraits{.models = "Qwen2, Qwen2.5, Qwen2.5-Coder, QwQ"};
  explicit Qwen2(const Config& config) : Decoder(config, {.rows = rows()}) {}
  static Status configure(const Keys& keys, Config& config) {
    const int n_layers = config.shape.n_layers;
    FOVEA_ASSIGN_OR_RETURN(const int64_t first, keys.size_or("max_window_layers", n_layers, 0, INT_MAX));
    return read_windows(keys, config, [first](int layer) { return layer >= first; });
  }

 private:
  static std::vector<DecoderRow> rows() {
    using B = DecoderBlock;
    return with_biases(decoder_rows(), {{&B::w_q, &B::b_q}, {&B::w_k, &B::b_k}, {&B::w_v, &B::b_v}});
  }
};
FOVEA_REGISTER_FAMILY(Qwen2, "qwen2", with_windows(decoder_keys({{"max_window_layers"}})));

}  // namespace
}  // namespace fovea::models
