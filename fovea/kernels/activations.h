// Activations of an MLP, alone and as a gate, and the centring that layer norm adds to rms norm. Lengths, addresses and
// infinities as in vector.h.
#pragma once

#include <cstdint>

#include "fovea/kernels/isa.h"

namespace fovea::kernels {

enum class Activation {
  kSilu,      // x / (1 + e^-x)
  kGelu,      // x Phi(x); Phi within 2e-7
  kGeluTanh,  // 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))
  kRelu,
  kClampedSwiglu,  // x' / (1 + e^(-alpha x')) with x' = min(x, limit)
};
inline constexpr float kSwigluLimit = 7.0f, kSwigluAlpha = 1.702f;
extern Dispatched<void(Activation act, const float* x, int64_t n, float* y)> activate;  // y = act(x)
extern Dispatched<void(Activation act, const float* gate, const float* up, int64_t n, float* y)>
    activate_gate;  // y = act(gate) * up; kClampedSwiglu: times up clamped to +-limit, plus 1

// y = x - mean(x), the sum in float lanes; n > 0. layer_norm(x) = rms_norm(center(x)).
extern Dispatched<void(const float* x, int64_t n, float* y)> center;

}  // namespace fovea::kernels
