// Llama: pre-norm, RoPE, grouped-query attention, SwiGLU; and Mixtral, which is Llama with experts, and in GGUF has its
// name. Touvron et al., arXiv:2302.13971; grouped queries: Ainslie et al., arXiv:2305.13245; Jiang et al.,
// arXiv:2401.04088.
#include "fovea/models/support/experts.h"
#include "fovea/models/support/layers.h"

namespace fovea::models {
namespace {

class Llama : public Decoder {
 public:
  static constexpr FamilyTraits kTraits{
      .models = "Llama 1 to 3.x, SmolLM, SmolLM2, TinyLlama and others of their form; Mixtral in GGUF files",
      .limits = "",
      .pairing = {.gguf = tensor::RopePairing::kAdjacent}};
  explicit Llama(const Config& config) : Decoder(config, style()) {}
  static Status configure(const Keys& keys, Config& config) { return read_experts(keys, config, /*normalized=*/true); }

 private:
  static DecoderStyle style() {
    return with_expert_rows({.rows = with_mlp_biases(with_attention_biases(decoder_rows()))},
                            {.router = "block_sparse_moe.gate.weight",
                             .gate = "block_sparse_moe.experts.*.w1.weight",
                             .up = "block_sparse_moe.experts.*.w3.weight",
                             .down = "block_sparse_moe.experts.*.w2.weight"});
  }
};
FOVEA_REGISTER_FAMILY(Llama, "llama",
                      with_experts(decoder_keys({{"attention_bias", FamilyKey::Use::kNote},  // there, or not
                                                 {"mlp_bias", FamilyKey::Use::kNote},
                                                 {"tensor_data_layout", FamilyKey::Use::kOnly,
                                                  "Meta AI original pth"}})));

// As Hugging Face's folders call it.
class Mixtral final : public Llama {
 public:
  static constexpr FamilyTraits kTraits{.models = "Mixtral 8x7B, 8x22B and others of their form"};
  using Llama::Llama;
  static Status configure(const Keys& keys, Config& config) {
    FOVEA_RETURN_IF_ERROR(read_windows(keys, config));
    return Llama::configure(keys, config);
  }
};
FOVEA_REGISTER_FAMILY(Mixtral, "mixtral", with_windows(with_experts(decoder_keys())));

}  // namespace
}  // namespace fovea::models
