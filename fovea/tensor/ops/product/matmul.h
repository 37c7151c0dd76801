#pragma once
#include <array>
#include <cstddef>
#include <span>

#include "fovea/tensor/ops/math/activations.h"
#include "fovea/tensor/ops/next.h"
#include "fovea/tensor/weight.h"

namespace fovea::tensor {
// y[t, r] = sum_c x[t, c] w[r, c] (+ bias[r]); x [n_tokens, cols], w [rows, cols] -> [n_tokens, rows].
// In `fast`, x is quantised once and the form is shared by every product of the same x: its values
// must not be written after the first. With a tape, or without an Exec, numerics are `exact`.
// Where the Exec has an adapter for w, what it adds is added to the finished product (adapters.h).
Tensor matmul(const Tensor& x, const Weight& w);
Tensor matmul(const Tensor& x, const Weight& w, const Weight& bias);  // bias may be !defined()

// Several products of one x: the same bits as one after the other, but one job of the thread pool.
struct Product {
  const Weight& w;
  const Weight& bias;
  bool fine = false;  // in `fast`, x is the sum of two int8 terms here: 16 bits, twice the arithmetic
};
void matmuls(const Tensor& x, std::span<const Product> products, Tensor* y);
template <size_t N>
std::array<Tensor, N> matmuls(const Tensor& x, const Product (&products)[N]) {
  std::array<Tensor, N> y;
  matmuls(x, products, y.data());
  return y;
}

// Products and what follows them in one job: a part of the product is finished while it is in the cache. With an
// adapter, and on the tape, they are made one after the other. Biases may be !defined().
struct Linear {
  const Weight& w;
  const Weight& bias;
};
// residual + factor * matmul(x, w, bias)
Tensor matmul_add(const Tensor& residual, const Tensor& x, const Linear& by, float factor = 1);
inline Tensor matmul_add(const Tensor& residual, const Tensor& x, const Weight& w) {
  const Weight none;
  return matmul_add(residual, x, {w, none});
}
// gated(matmul(x, gate), matmul(x, up), act)
Tensor matmul_gated(const Tensor& x, const Linear& gate, const Linear& up, Activation act, Next next = Next::kAnything);
inline Tensor matmul_swiglu(const Tensor& x, const Weight& w_gate, const Weight& w_up, Next next = Next::kAnything) {
  const Weight none;
  return matmul_gated(x, {w_gate, none}, {w_up, none}, Activation::kSilu, next);
}
// activate(matmul(x, w, bias), act)
Tensor matmul_activated(const Tensor& x, const Linear& by, Activation act, Next next = Next::kAnything);
}  // namespace fovea::tensor
