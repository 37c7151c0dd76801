// Weight: a parameter of a model. In inference it is a view of the file's bytes (any native
// dtype, mapped) plus an optional packed form; on the tape it is a float32 Tensor with a gradient.
#pragma once

#include <memory>
#include <string>

#include "fovea/base/result.h"
#include "fovea/kernels/matmul.h"
#include "fovea/tensor/tensor.h"

namespace fovea::tensor {

struct Weight {
  std::string name;              // the name in the file, for messages
  kernels::WeightView view;      // [rows, cols]; a vector is [1, n]
  std::shared_ptr<void> packed;  // the form matmul reads, if repacked (see pack_weight)
  Tensor value;                  // defined: float32 parameters to train; `view` then points into it

  int64_t rows() const { return view.rows; }
  int64_t cols() const { return view.cols; }
  bool defined() const { return view.data != nullptr; }

  // A float32 parameter [rows, cols], or a vector [n], that shares the values of `value`.
  static Weight from(std::string name, const Tensor& value);
};

// Repacks w for matmul with the thread pool; no-op where its dtype has no packed form, where it is
// packed already, and for trainable weights (their values change). Returns the bytes it took.
size_t pack_weight(Weight& w);
size_t packed_weight_bytes();  // of all packed forms alive in this process

// The weight as float32: `value` if defined, else dequantised into a new tensor.
Tensor weight_values(const Weight& w);

}  // namespace fovea::tensor
