// Gemma 3, its language model: five layers with a window and angles of their own to one that sees all, norms of q and
// k. Gemma Team, arXiv:2503.19786.
#include "fovea/models/support/gemma_rows.h"

namespace fovea::models {
namespace {

class Gemma3 final : public Decoder {
 public:
  static constexpr FamilyTraits kTraits{.models = "Gemma 3, its language model",
                                        .limits = "images, soft caps of scores",
                                        .activation = tensor::Activation::kGeluTanh,
                                        .window_rope_base = 10000};
  explicit Gemma3(const Config& config)
      : Decoder(config, {.rows = with_head_norms(sandwich_rows()), .hf_norm_plus = 1}) {}
  static Status configure(const Keys& keys, Config& config) {
    constexpr int kLayersOf27B = 62;
    scale_embeddings(config);
    FOVEA_RETURN_IF_ERROR(read_windows(keys, config, [](int layer) { return layer % 6 != 5; }));
    FOVEA_RETURN_IF_ERROR(read_query_scale(keys, config, kLayersOf27B));
    return read_soft_caps(keys, config, {});
  }
};
FOVEA_REGISTER_FAMILY(Gemma3, "gemma3",
                      gemma_keys({{"rope.freq_base_swa"}, {"rope.scaling_swa.type"}, {"rope.scaling_swa.factor"}}));

}  // namespace
}  // namespace fovea::models
