// Gemma 2: Gemma with norms behind attention and MLP, a window in every other layer, soft caps on scores and logits.
// Gemma Team, arXiv:2408.00118.
#include "fovea/models/support/gemma_rows.h"

namespace fovea::models {
namespace {

class Gemma2 final : public Decoder {
 public:
  static constexpr FamilyTraits kTraits{.models = "Gemma 2", .activation = tensor::Activation::kGeluTanh};
  explicit Gemma2(const Config& config) : Decoder(config, {.rows = sandwich_rows(), .hf_norm_plus = 1}) {}
  static Status configure(const Keys& keys, Config& config) {
    constexpr int kLayersOf27B = 46;  // its queries are divided by the root of d_model / n_heads, which no key says
    scale_embeddings(config);
    constexpr int kWindow = 4096;  // of every published one; older files do not say it
    FOVEA_RETURN_IF_ERROR(read_windows(keys, config, [](int layer) { return layer % 2 == 0; }, {.size = kWindow}));
    FOVEA_RETURN_IF_ERROR(read_query_scale(keys, config, kLayersOf27B));
    return read_soft_caps(keys, config, {.scores = 50, .logits = 30});
  }
};
FOVEA_REGISTER_FAMILY(Gemma2, "gemma2", gemma_keys({{"attn_logit_softcapping"}}));

}  // namespace
}  // namespace fovea::models
