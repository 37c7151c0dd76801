// Weight: a parameter of a model. In inference it is a view of the file's bytes (any native
// dtype, mapped) plus an optional packed form; on the tape it is a float32 Tensor with a gradient.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "fovea/base/result.h"
#include "fovea/kernels/matmul.h"
#include "fovea/tensor/tensor.h"

namespace fovea::tensor {

struct Weight;

// The form of a weight that matmul reads fastest: made at load, or once the weight is used enough to pay for it.
// Products give the same bits with and without it.
class PackedForm {
 public:
  // Told of the rows that are packed now, a few megabytes at a time, on the thread that began it: products do not read
  // these bytes of the file again.
  using Done = std::function<void(std::span<const std::byte> rows)>;
  const void* data() const { return data_.load(std::memory_order_acquire); }  // null until it is made
  // The form for a product with n_tokens: makes it, with the thread pool, where this is the weight's second product
  // or a long one. Any thread may call; while one makes it the others get null. Null too if these numerics read
  // another.
  const void* data_for(const kernels::WeightView& w, int64_t n_tokens, kernels::Numerics numerics);
  // Rows of the file were read although the form is made: `done` hears of all rows again.
  void done_again(const kernels::WeightView& w) const;

 private:
  friend size_t pack_weight(Weight& w, kernels::Numerics numerics);
  friend size_t pack_weight_later(Weight& w, Done done, kernels::Numerics numerics);
  bool make(const kernels::WeightView& w);  // false: it is made, being made, or was found too large

  kernels::Numerics numerics_ = kernels::Numerics::kFast;
  std::atomic<const void*> data_{nullptr};
  std::atomic<bool> begun_{false}, used_{false};
  std::shared_ptr<void> block_;
  Done done_;
};

struct Weight {
  std::string name;                    // the name in the file, for messages
  kernels::WeightView view;            // [rows, cols]; a vector is [1, n]
  std::shared_ptr<PackedForm> packed;  // null: packed panel by panel at every use
  Tensor value;                        // defined: float32 parameters to train; `view` then points into it

  int64_t rows() const { return view.rows; }
  int64_t cols() const { return view.cols; }
  bool defined() const { return view.data != nullptr; }

  // A float32 parameter [rows, cols], or a vector [n], that shares the values of `value`.
  static Weight from(std::string name, const Tensor& value);
};

// Repacks w for matmul in these numerics with the thread pool; no-op where they read its dtype from the file, where it
// is packed already, and for trainable weights (their values change). Returns the bytes it took.
size_t pack_weight(Weight& w, kernels::Numerics numerics = kernels::Numerics::kFast);
// The same, but only when it pays (see PackedForm). The bytes are those it will take.
size_t pack_weight_later(Weight& w, PackedForm::Done done = {}, kernels::Numerics numerics = kernels::Numerics::kFast);
size_t packed_weight_bytes();  // of all packed forms alive in this process

// The weight as float32: `value` if defined, else dequantised into a new tensor.
Tensor weight_values(const Weight& w);

}  // namespace fovea::tensor
