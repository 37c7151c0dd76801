#include "fovea/tensor/ops/quantized_form.h"

#include "fovea/kernels/matmul.h"
#include "fovea/tensor/exec.h"
#include "fovea/tensor/ops/for_rows.h"

namespace fovea::tensor {
namespace {

using kernels::WeightForm;

thread_local QuantizedForm t_forms[2];
thread_local int t_newest = 0;

}  // namespace

bool wants_form(Next next, int64_t cols) {
  const Exec* exec = Exec::current();
  return next != Next::kAnything && exec && !exec->tape && kernels::takes_codes(exec->form) &&
         cols % kernels::columns_per_scale(exec->form) == 0 && exec->numerics == Numerics::kFast;
}

bool QuantizedForm::is_of(const Tensor& x, int64_t n_tokens, int64_t cols, WeightForm kind) const {
  return id_ == x.id() && n_tokens_ == n_tokens && cols_ == cols && kind_ == kind && isa_ == kernels::active_isa();
}

QuantizedForm& QuantizedForm::begin(const Tensor& x, int64_t n_tokens, int64_t cols, bool with_rest) {
  return begin(x, n_tokens, cols, Exec::current()->form, with_rest);
}

QuantizedForm& QuantizedForm::begin(const Tensor& x, int64_t n_tokens, int64_t cols, WeightForm kind, bool with_rest) {
  with_rest = with_rest && kind == WeightForm::kInt8;
  t_newest = 1 - t_newest;
  QuantizedForm& form = t_forms[t_newest];
  form.id_ = 0;  // should there be no memory
  const size_t bytes = kernels::quantized_bytes(n_tokens, cols, kind);
  form.codes_ = form.code_bytes_.at_least(bytes);
  if (with_rest) form.rest_ = form.rest_bytes_.at_least(bytes);
  form.id_ = x.id(), form.n_tokens_ = n_tokens, form.cols_ = cols;
  form.kind_ = kind, form.isa_ = kernels::active_isa(), form.has_rest_ = with_rest;
  return form;
}

const QuantizedForm& QuantizedForm::of(const Tensor& x, int64_t n_tokens, int64_t cols, WeightForm kind,
                                       bool with_rest) {
  const float* px = x.data();
  for (const int i : {0, 1}) {
    QuantizedForm& form = t_forms[i];
    if (!form.is_of(x, n_tokens, cols, kind)) continue;
    t_newest = i;
    if (with_rest && kind == WeightForm::kInt8 && !form.has_rest_) {
      form.rest_ = form.rest_bytes_.at_least(kernels::quantized_bytes(n_tokens, cols, kind));
      for_rows(n_tokens, cols, [&](int64_t begin, int64_t end) { form.fill_rest(px, begin, end); });
      form.has_rest_ = true;
    }
    return form;
  }
  QuantizedForm& form = begin(x, n_tokens, cols, kind, with_rest);
  for_rows(n_tokens, cols, [&](int64_t begin, int64_t end) { form.fill(px, begin, end); });
  return form;
}

void QuantizedForm::fill(const float* x, int64_t first, int64_t last) {
  fill_columns(x, cols_, first, last, 0, cols_);
  if (has_rest_) fill_rest(x, first, last);
}

void QuantizedForm::fill_rest(const float* x, int64_t first, int64_t last) {
  kernels::quantize_rest(x, cols_, n_tokens_, cols_, first, last, codes_, rest_);
}

void QuantizedForm::fill_columns(const float* x, int64_t ld_x, int64_t first, int64_t last, int64_t col_first,
                                 int64_t col_last) {
  const auto& fill = kind_ == WeightForm::kInt16 ? kernels::quantize_columns16 : kernels::quantize_columns;
  fill(x, ld_x, n_tokens_, cols_, first, last, col_first, col_last, codes_);
}

}  // namespace fovea::tensor
