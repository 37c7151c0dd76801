// Products as jobs of the thread pool, with what is done to each part of them while it is in the cache. For this room
// only.
#pragma once

#include <span>

#include "fovea/kernels/matmul.h"
#include "fovea/tensor/ops/math/activations.h"
#include "fovea/tensor/ops/quantized_form.h"

namespace fovea::tensor {

// A product, and what is done with each part of it. Ranges and scratch of the arguments are filled in by who runs it.
struct Job {
  kernels::MatmulArgs product;
  bool activates = false;       // y = act(y)
  const float* onto = nullptr;  // [n_tokens, rows]: y = onto + factor y, last of all
  float factor = 1;
  const kernels::MatmulArgs* rest = nullptr;  // y = rest + y, its product with the same rows
  QuantizedForm* form = nullptr;              // y's, for the product that follows
};

inline kernels::WeightForm form_of(const kernels::MatmulArgs& args) {
  return kernels::form_of(args.w.dtype, args.w.cols, args.numerics);
}

// Whole products of one input.
void run(std::span<const Job> jobs);
// Products each with tokens of its own, [token_begin, token_end) of one input.
void run_own_tokens(std::span<const Job> jobs);

}  // namespace fovea::tensor
