// The driver of elementwise ops: y = f(x), dx = slope(v) dy with v the input, or the output where that is cheaper.
// For this room only.
#pragma once

#include "fovea/tensor/ops/for_rows.h"
#include "fovea/tensor/tape.h"
#include "fovea/tensor/tensor.h"

namespace fovea::tensor {

enum class SlopeOf { kInput, kOutput };

template <SlopeOf kOf = SlopeOf::kInput, typename F, typename Slope>
Tensor map(const Tensor& x, F f, Slope slope) {
  Tensor y = Tensor::empty(x.shape());
  const float* in = x.data();
  float* out = y.data();
  for_elements(x.elements(), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) out[i] = f(in[i]);
  });
  if (Tape* tape = current_tape()) {
    tape->record(y, {x}, [kept = kOf == SlopeOf::kOutput ? y : x, x = ValueId(x), y = ValueId(y), slope](Tape& t) {
      bool first = false;
      const float *v = kept.data(), *dy = t.grad(y).data();
      float* dx = t.grad(x, first).data();
      for_elements(kept.elements(), [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          const float d = slope(v[i]) * dy[i];
          dx[i] = first ? d : dx[i] + d;
        }
      });
    });
  }
  return y;
}

}  // namespace fovea::tensor
