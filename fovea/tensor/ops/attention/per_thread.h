// Scratch memory of the attention ops: `bytes` for each thread of the pool, whole cache lines apart.
#pragma once

#include <cstddef>
#include <cstdint>

#include "fovea/base/threads.h"
#include "fovea/tensor/tensor.h"

namespace fovea::tensor {

struct PerThread {
  explicit PerThread(size_t bytes) : slice(static_cast<int64_t>((bytes + 127) / 128 * 32)) {
    held = Tensor::empty({slice * pool().size()});
  }
  void* at(int thread) { return held.data() + slice * thread; }
  int64_t slice;  // floats
  Tensor held;
};

}  // namespace fovea::tensor
