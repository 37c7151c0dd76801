// Elementwise loops and reductions over vectors: norms, gates, softmax, rotation, counting.
//
// Every n may be 0 or any length, every pointer need only be aligned as a float, and an output may
// be one of the inputs. Infinities and NaN go through as IEEE arithmetic says, but where stated.
#pragma once

#include <cstdint>

#include "fovea/kernels/isa.h"

namespace fovea::kernels {

// y[i] = x[i] * weight[i] / sqrt(mean(x^2) + eps); no weight if null. Zhang & Sennrich, arXiv:1910.07467
extern Dispatched<void(const float* x, const float* weight, float eps, int64_t n, float* y)> rms_norm;
// sqrt(mean(x^2) + eps), what rms_norm divides by; n > 0
extern Dispatched<float(const float* x, float eps, int64_t n)> rms_inv_scale;

extern Dispatched<void(const float* a, const float* b, int64_t n, float* y)> add;  // y = a + b
extern Dispatched<void(const float* a, const float* b, int64_t n, float* y)> mul;  // y = a * b
extern Dispatched<void(int64_t n, float a, const float* x, float* y)> scale;       // y = a * x
extern Dispatched<void(int64_t n, float a, const float* x, float* y)> axpy;        // y += a * x
extern Dispatched<float(const float* a, const float* b, int64_t n)> dot;

// e^x by a polynomial: relative error below 1.5e-7; below -87.33, where e^x is no normal float, 0.
extern Dispatched<void(const float* x, int64_t n, float* y)> exp_all;
extern Dispatched<void(const float* x, int64_t n, float* y)> silu;                        // y = x / (1 + e^-x)
extern Dispatched<void(const float* gate, const float* up, int64_t n, float* y)> swiglu;  // silu(gate) * up

// y[i] = e^(x[i] - max) / sum; zeros if every x is -inf.
extern Dispatched<void(const float* x, int64_t n, float* y)> softmax;
extern Dispatched<float(const float* x, int64_t n)> log_sum_exp;  // -inf for n = 0
// The first index of the largest value; NaN never counts. 0 if there is nothing to compare.
extern Dispatched<int64_t(const float* x, int64_t n)> argmax;

// The bits that are set in n words.
extern Dispatched<uint64_t(const uint32_t* words, int64_t n)> count_bits;

// Turns pair i by the angle whose cosine and sine are given: (a, b) -> (a cos - b sin, a sin + b cos).
// A pair is (x[2i], x[2i+1]) if `adjacent`, else (x[i], x[i + n_pairs]). y may be x.
extern Dispatched<void(const float* x, const float* cos, const float* sin, int64_t n_pairs, bool adjacent, float* y)>
    rope_rotate;

}  // namespace fovea::kernels
