// Layers whose MLP is a mixture of experts: their keys, their rows of the tables, and their step of the chain.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "fovea/models/support/blocks.h"
#include "fovea/models/support/decoder.h"
#include "fovea/models/support/keys.h"

namespace fovea::models {

// `keys`, and those that read_experts reads, but expert_shared_feed_forward_length: families with such an expert list
// it themselves.
std::vector<FamilyKey> with_experts(std::vector<FamilyKey> keys);
// Config::experts. Without expert_count there are none; `normalized` where expert_weights_norm is missing.
Status read_experts(const Keys& keys, Config& config, bool normalized);

// `style`, and the rows of router and experts with gate, up and down. In Hugging Face's files: the router's name, and
// those of an expert's three matrices with a star for its number; in GGUF each matrix of all experts is one tensor.
struct ExpertNames {
  std::string_view router, gate, up, down;
};
DecoderStyle with_expert_rows(DecoderStyle style, const ExpertNames& hf);

// What a mixture gives for h [n, d_model], with the hooks of its parts: softmax of the router's logits, the largest
// `used` of it, and the experts that they name.
struct Mixture {
  Linear router;
  std::span<const tensor::Expert> experts;
  const ExpertSizes& sizes;
  Activation act = Activation::kSilu;
};
tensor::Tensor mix_experts(const tensor::Tensor& h, const Mixture& by, attention::Hooks& hook, int layer);

}  // namespace fovea::models
