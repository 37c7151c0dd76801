// {"net": "gpt-oss", ...}: a decoder with a sink of its own for each head, a logit in the softmax that brings no value:
// attention that has nowhere to go needs no first token. As `transformers` has it under GptOssForCausalLM, without
// windows; of one expert unless it is said otherwise.
#include <nlohmann/json.hpp>

#include "fovea/train/nets/net.h"

namespace fovea::train {
namespace {

class GptOssNet final : public Net {
 public:
  GptOssNet(Settings& s, const Context& context) {
    config_ = decoder_config(s, context);
    const int64_t experts = s.integer("n_experts", 1, 1, 1024), used = s.integer("n_used", 1, 1, experts);
    const auto layers = config_["num_hidden_layers"].get<size_t>();
    config_.update(nlohmann::ordered_json{{"architectures", {"GptOssForCausalLM"}},
                                          {"model_type", "gpt_oss"},
                                          {"attention_bias", true},
                                          {"layer_types", std::vector<std::string>(layers, "full_attention")},
                                          {"num_local_experts", experts},
                                          {"num_experts_per_tok", used}});
  }
  nlohmann::ordered_json config() const override { return config_; }

 private:
  nlohmann::ordered_json config_;
};
FOVEA_TRAIN_PART(Net, "gpt-oss", GptOssNet);

}  // namespace
}  // namespace fovea::train
