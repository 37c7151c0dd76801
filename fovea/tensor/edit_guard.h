// Finds out whether a callback wrote into a value in place. On the tape that cuts the value off from what made it
// while gradients still flow there as if nothing had happened, so it must be refused.
#pragma once

#include <cstddef>
#include <cstring>

#include "fovea/tensor/tape.h"
#include "fovea/tensor/tensor.h"

namespace fovea::tensor {

class EditGuard {
 public:
  // Costs a copy where the current tape has a gradient for `value`, else nothing.
  explicit EditGuard(const Tensor& value) {
    const Tape* tape = current_tape();
    if (!tape || !tape->needs_grad(value)) return;
    value_ = value;
    before_ = Tensor::from(value.shape(), value.values());
  }
  bool edited() const {
    return value_.defined() &&
           std::memcmp(value_.data(), before_.data(), static_cast<size_t>(value_.elements()) * sizeof(float)) != 0;
  }

 private:
  Tensor value_, before_;
};

}  // namespace fovea::tensor
