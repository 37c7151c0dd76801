// {"net": "llama", ...}: a decoder with RMS norms, rotary positions, grouped queries and SwiGLU, as `transformers` has
// it under LlamaForCausalLM.
#include <nlohmann/json.hpp>

#include "fovea/models/support/config.h"
#include "fovea/train/nets/net.h"

namespace fovea::train {
namespace {

using Sizes = models::ModelSizes;

class LlamaNet final : public Net {
 public:
  LlamaNet(Settings& s, const Context& context) {
    const int64_t d_model = s.integer("d_model", std::nullopt, 1, Sizes::kMaxWidth);
    const int64_t heads = s.integer("n_heads", std::nullopt, 1, Sizes::kMaxHeads);
    const int64_t kv_heads = s.integer("n_kv_heads", heads, 1, Sizes::kMaxHeads);
    const int64_t head_dim = s.integer("head_dim", std::max<int64_t>(1, d_model / heads), 1, Sizes::kMaxHeadDim);
    std::optional<int64_t> vocab;
    if (context.vocab_size > 0) vocab = context.vocab_size;
    if (s.good() && !s.json().contains("head_dim") && d_model % heads != 0)
      s.wrong("n_heads", "does not divide d_model; with head_dim it need not");
    if (s.good() && heads % kv_heads != 0) s.wrong("n_kv_heads", "does not divide n_heads");
    config_ = {{"architectures", {"LlamaForCausalLM"}},
               {"model_type", "llama"},
               {"hidden_size", d_model},
               {"intermediate_size", s.integer("d_ff", 4 * d_model, 1, Sizes::kMaxWidth)},
               {"num_hidden_layers", s.integer("n_layers", std::nullopt, 1, Sizes::kMaxLayers)},
               {"num_attention_heads", heads},
               {"num_key_value_heads", kv_heads},
               {"head_dim", head_dim},
               {"vocab_size", s.integer("vocab_size", vocab, 2, Sizes::kMaxVocab)},
               {"max_position_embeddings", s.integer("n_ctx", context.context, 1, Sizes::kMaxContext)},
               {"rms_norm_eps", s.number("norm_eps", 1e-5, 1e-12, 1)},
               {"rope_theta", s.number("rope_theta", 10000, 1, 1e12)},
               {"tie_word_embeddings", s.flag("tied", false)},
               {"hidden_act", "silu"},
               {"attention_bias", false},
               {"mlp_bias", false},
               {"initializer_range", 0.02},
               {"bos_token_id", nullptr},
               {"eos_token_id", nullptr},
               {"torch_dtype", "float32"}};
  }
  nlohmann::ordered_json config() const override { return config_; }

 private:
  nlohmann::ordered_json config_;
};
FOVEA_TRAIN_PART(Net, "llama", LlamaNet);

}  // namespace
}  // namespace fovea::train
