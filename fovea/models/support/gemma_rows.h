// What the Gemma families share.
#pragma once

#include <initializer_list>
#include <vector>

#include "fovea/models/support/decoder.h"
#include "fovea/models/support/layers.h"

namespace fovea::models {

std::vector<DecoderRow> sandwich_rows();  // norms before and behind attention and MLP
void scale_embeddings(Config& config);    // by the root of d_model
std::vector<FamilyKey> gemma_keys(std::initializer_list<FamilyKey> more = {});  // of Gemma 2 and 3
// 1 / sqrt(query_pre_attn_scalar). Without the key it is the width of a head, but in the model that has `layers_of_27b`
// layers d_model / n_heads: GGUF files do not say.
Status read_query_scale(const Keys& keys, Config& config, int layers_of_27b);
struct SoftCaps {
  double scores = 0, logits = 0;  // 0: none
};
// The key false is none, too: the family would take its own cap for a key that is not there.
Status read_soft_caps(const Keys& keys, Config& config, const SoftCaps& otherwise);

}  // namespace fovea::models
