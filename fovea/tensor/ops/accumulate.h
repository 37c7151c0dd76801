// What backward passes share: adding into a gradient. For this room only.
#pragma once

#include "fovea/kernels/vector.h"
#include "fovea/tensor/ops/for_rows.h"
#include "fovea/tensor/tensor.h"

namespace fovea::tensor {

// into += from, as many elements.
inline void accumulate(Tensor& into, const Tensor& from) {
  float* to = into.data();
  const float* values = from.data();
  for_elements(into.elements(),
               [&](int64_t begin, int64_t end) { kernels::add(to + begin, values + begin, end - begin, to + begin); });
}

}  // namespace fovea::tensor
