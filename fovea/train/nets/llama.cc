// {"net": "llama", ...}: a decoder with RMS norms, rotary positions, grouped queries and SwiGLU, as `transformers` has
// it under LlamaForCausalLM.
#include <nlohmann/json.hpp>

#include "fovea/train/nets/net.h"

namespace fovea::train {
namespace {

class LlamaNet final : public Net {
 public:
  LlamaNet(Settings& s, const Context& context) {
    config_ = decoder_config(s, context);
    config_.update(nlohmann::ordered_json{{"architectures", {"LlamaForCausalLM"}},
                                          {"model_type", "llama"},
                                          {"attention_bias", false},
                                          {"mlp_bias", false}});
  }
  nlohmann::ordered_json config() const override { return config_; }

 private:
  nlohmann::ordered_json config_;
};
FOVEA_TRAIN_PART(Net, "llama", LlamaNet);

}  // namespace
}  // namespace fovea::train
