// Vector loops of backward passes. `add` says whether an output is added to or written for the first time.
// Every n may be 0 or any length, every pointer need only be aligned as a float.
#pragma once

#include <cstdint>

#include "fovea/kernels/isa.h"

namespace fovea::kernels {

// dx = silu'(x) dy, with silu'(x) = s (1 + x (1 - s)), s = 1 / (1 + e^-x)
extern Dispatched<void(const float* x, const float* dy, int64_t n, bool add, float* dx)> silu_backward;

// dx = gelu'(x) dy, of x Phi(x) or, where `by_tanh`, of its tanh form (activations.h)
extern Dispatched<void(const float* x, const float* dy, int64_t n, bool by_tanh, bool add, float* dx)> gelu_backward;

// dgate = silu'(gate) up dy, dup = silu(gate) dy; an output may be null.
struct SwigluBackward {
  const float *gate = nullptr, *up = nullptr, *dy = nullptr;
  float *dgate = nullptr, *dup = nullptr;
  bool add_gate = false, add_up = false;
};
extern Dispatched<void(const SwigluBackward& args, int64_t begin, int64_t end)> swiglu_backward;

// sum of e^(x - top) and top, the largest x: log(sum) + top is the log-sum-exp without its rounding.
extern Dispatched<float(const float* x, int64_t n, float* top)> exp_sum;
// y = factor e^(x - top)
extern Dispatched<void(const float* x, int64_t n, float top, float factor, bool add, float* y)> exp_scaled;

// dx = (g - xhat mean(g xhat)) / scale with g = dy weight (dy where weight is null) and xhat = x / scale
extern Dispatched<void(const float* x, const float* weight, const float* dy, float scale, int64_t n, bool add,
                       float* dx)>
    rms_norm_backward;

// dx = (g - mean(g) - unit mean(g unit)) scale with g as above: of layer norm and its like, unit the normed row and
// scale what it was multiplied by.
extern Dispatched<void(const float* unit, const float* weight, const float* dy, float scale, int64_t n, bool add,
                       float* dx)>
    layer_norm_backward;

// y += a b
extern Dispatched<void(const float* a, const float* b, int64_t n, float* y)> add_product;

}  // namespace fovea::kernels
