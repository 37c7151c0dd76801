// What backward passes share: adding into a gradient. For this room only.
#pragma once

#include <algorithm>

#include "fovea/kernels/vector.h"
#include "fovea/tensor/ops/for_rows.h"
#include "fovea/tensor/tape.h"

namespace fovea::tensor {

// grad(into) += from
inline void accumulate(Tape& tape, const ValueId& into, const Tensor& from) {
  bool first = false;
  Tensor& grad = tape.grad(into, first);
  float* to = grad.data();
  const float* values = from.data();
  for_elements(grad.elements(), [&](int64_t begin, int64_t end) {
    if (first) {
      std::copy(values + begin, values + end, to + begin);
    } else {
      kernels::add(to + begin, values + begin, end - begin, to + begin);
    }
  });
}

}  // namespace fovea::tensor
