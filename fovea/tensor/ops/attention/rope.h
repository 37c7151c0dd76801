#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "fovea/tensor/tensor.h"

namespace fovea::tensor {
// Which two elements of a head rotate together: (i, i + d/2) as in Hugging Face and GPT-NeoX, or
// (2i, 2i + 1) as llama GGUF files expect, whose q and k rows were permuted on conversion.
enum class RopePairing { kHalves, kAdjacent };
// By the kind of file that holds them: converters permute the rows of some families.
struct StoredPairing {
  RopePairing gguf = RopePairing::kHalves, hf = RopePairing::kHalves;
};

// Angles per pair: theta_i = inv_freq[i] * position. `attn_factor` multiplies cos and sin (YaRN).
struct RopeTable {
  std::vector<float> inv_freq;  // rotary_dim / 2 of them
  float attn_factor = 1.0f;
  RopePairing pairing = RopePairing::kHalves;
};

// cos and sin of every (token, pair), computed once for the q and k of all layers.
struct RopeAngles {
  Tensor cos, sin;  // [n_tokens, rotary_dim / 2], times attn_factor
  RopePairing pairing = RopePairing::kHalves;
};
// Angles in double, cos and sin rounded to float.
RopeAngles make_rope_angles(std::span<const int32_t> positions, const RopeTable& table);

// Su et al., arXiv:2104.09864. x [n_tokens, n_heads, head_dim]; the first 2 * inv_freq.size()
// elements of each head rotate, the rest pass.
Tensor rope(const Tensor& x, const RopeAngles& angles);
Tensor rope(const Tensor& x, std::span<const int32_t> positions, const RopeTable& table);
}  // namespace fovea::tensor
