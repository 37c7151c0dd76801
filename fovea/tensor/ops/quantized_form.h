// The integer form of the last two tensors multiplied on this thread: q, k and v share one, gate and up the next. Keyed
// by the identity of the values; the instruction set decides the layout. For this room only.
#pragma once

#include <cstdint>

#include "fovea/kernels/isa.h"
#include "fovea/kernels/matmul.h"
#include "fovea/tensor/ops/next.h"
#include "fovea/tensor/scratch.h"
#include "fovea/tensor/tensor.h"

namespace fovea::tensor {

// Whether the integer form of a result with this many columns is made with it: that of Exec::form.
bool wants_form(Next next, int64_t cols);

class QuantizedForm {
 public:
  // That of x [n_tokens, cols] for weights of `form`, made now unless x was quantised already. `with_rest`: what int8
  // leaves of x too.
  static const QuantizedForm& of(const Tensor& x, int64_t n_tokens, int64_t cols, kernels::WeightForm form,
                                 bool with_rest);
  // For who makes x: a form to fill part by part, from any thread, before anybody multiplies x. Its parts must all be
  // done when the job that makes x ends; x must not be written after.
  static QuantizedForm& begin(const Tensor& x, int64_t n_tokens, int64_t cols, bool with_rest);
  // Tokens [first, last), whole rows; and columns [col_first, col_last) of them, multiples of columns_per_scale(),
  // without the rest.
  void fill(const float* x, int64_t first, int64_t last);
  void fill_columns(const float* x, int64_t ld_x, int64_t first, int64_t last, int64_t col_first, int64_t col_last);

  kernels::WeightForm kind() const { return kind_; }
  const void* codes() const { return codes_; }
  const void* rest() const { return rest_; }

 private:
  static QuantizedForm& begin(const Tensor& x, int64_t n_tokens, int64_t cols, kernels::WeightForm kind,
                              bool with_rest);
  bool is_of(const Tensor& x, int64_t n_tokens, int64_t cols, kernels::WeightForm kind) const;
  void fill_rest(const float* x, int64_t first, int64_t last);

  uint64_t id_ = 0;
  int64_t n_tokens_ = 0, cols_ = 0;
  kernels::WeightForm kind_ = kernels::WeightForm::kInt8;
  kernels::Isa isa_ = kernels::Isa::kPortable;
  bool has_rest_ = false;
  void *codes_ = nullptr, *rest_ = nullptr;
  Scratch code_bytes_, rest_bytes_;
};

}  // namespace fovea::tensor
