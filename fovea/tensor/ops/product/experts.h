// Mixtures of experts. Shazeer et al., arXiv:1701.06538; Fedus et al., arXiv:2101.03961.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "fovea/tensor/ops/math/activations.h"
#include "fovea/tensor/weight.h"

namespace fovea::tensor {
// The gated MLP of one of them: down(gated(gate(x), up(x))). Biases may be !defined().
struct Expert {
  Weight w_gate, w_up, w_down, b_gate, b_up, b_down;
};

// Where each token goes. Of equal probabilities the expert with the lower number is taken first; one that is no number
// is taken only where nothing else is left.
struct Routing {
  Tensor weights;                // [n, used]
  std::vector<int32_t> experts;  // [n, used], the most probable first
};
// The `used` largest of each row of probabilities [n, n_experts]; `normalized`: their weights sum up to 1.
Routing route(const Tensor& probabilities, int64_t used, bool normalized);

// y[t] = sum over i of weights[t, i] * expert[experts[t, i]](x[t]), added in the order of i. Tokens are sorted by
// expert, so that a pass reads the weights of each that is used once; a token gives the same bits in any batch. x [n,
// d_model] -> [n, d_model]. On the tape, and with adapters, experts run one after the other.
Tensor mix_experts(const Tensor& x, std::span<const Expert> experts, const Routing& routing, Activation act);
}  // namespace fovea::tensor
