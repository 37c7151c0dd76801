#include "fovea/tensor/ops/product/matmul.h"

#include <algorithm>
#include <utility>

#include "fovea/base/check.h"
#include "fovea/kernels/matmul.h"
#include "fovea/kernels/sgemm.h"
#include "fovea/tensor/exec.h"
#include "fovea/tensor/ops/for_rows.h"
#include "fovea/tensor/ops/math/add.h"
#include "fovea/tensor/ops/math/unary.h"
#include "fovea/tensor/ops/product/adapted.h"
#include "fovea/tensor/ops/product/jobs.h"
#include "fovea/tensor/ops/quantized_form.h"
#include "fovea/tensor/product_watch.h"
#include "fovea/tensor/tape.h"

namespace fovea::tensor {
namespace {

using kernels::MatmulArgs;

constexpr int64_t kRowsPerStep = 1024;  // bounds the float32 copies that backward makes of a weight

// dx += dy w; of a quantised weight some rows at a time: it is frozen, but gradients pass through it.
void backward_to_x(const Tensor& dy, const Weight& w, Tensor& dx, bool first) {
  const int64_t n = dy.dim(0), rows = w.rows(), cols = w.cols();
  const auto add = [&](const float* values, int64_t begin, int64_t end) {
    kernels::sgemm({.m = n,
                    .n = cols,
                    .k = end - begin,
                    .a = dy.data() + begin,
                    .ld_a = rows,
                    .b = values,
                    .ld_b = cols,
                    .c = dx.data(),
                    .ld_c = cols,
                    .accumulate = !first || begin > 0});
  };
  if (w.view.dtype == kernels::DType::kF32) return add(static_cast<const float*>(w.view.data), 0, rows);
  const auto* bytes = static_cast<const std::byte*>(w.view.data);
  const uint64_t stride = kernels::row_bytes(w.view.dtype, cols);
  for (int64_t begin = 0; begin < rows; begin += kRowsPerStep) {
    const int64_t end = std::min(rows, begin + kRowsPerStep);
    Weight some;
    some.view = {.dtype = w.view.dtype,
                 .rows = end - begin,
                 .cols = cols,
                 .data = bytes + static_cast<uint64_t>(begin) * stride};
    add(weight_values(some).data(), begin, end);
  }
}

// dw += dy^T x
void backward_to_w(const Tensor& dy, const Tensor& x, Tensor& dw, bool first) {
  kernels::sgemm({.m = dw.dim(0),
                  .n = dw.dim(1),
                  .k = dy.dim(0),
                  .a = dy.data(),
                  .ld_a = dw.dim(0),
                  .a_transposed = true,
                  .b = x.data(),
                  .ld_b = dw.dim(1),
                  .c = dw.data(),
                  .ld_c = dw.dim(1),
                  .accumulate = !first});
}

// Rows in rising order within a column, whatever the threads.
void backward_to_bias(const Tensor& dy, Tensor& dbias) {
  const int64_t n = dy.dim(0), rows = dy.dim(1);
  float* to = dbias.data();
  for_columns(rows, n, [&](int64_t begin, int64_t end) {
    for (int64_t t = 0; t < n; ++t) {
      for (int64_t r = begin; r < end; ++r) to[r] += dy.data()[t * rows + r];
    }
  });
}

// The product x w^T + bias into y; `hold` keeps the bias where the file has it in another type.
MatmulArgs args_of(const Tensor& x, const Weight& w, const Weight& bias, Tensor& y, Tensor& hold,
                   bool with_rest = false) {
  FOVEA_CHECK(w.defined(), "matmul: weight {} is not defined", w.name);
  FOVEA_CHECK(x.shape().rank() == 2 && x.dim(1) == w.cols(), "matmul: x {} times {} [{}, {}]", x.shape().to_string(),
              w.name, w.rows(), w.cols());
  FOVEA_CHECK(!bias.defined() || (bias.rows() == 1 && bias.cols() == w.rows()),
              "matmul: bias {} is [{}, {}] for {} rows", bias.name, bias.rows(), bias.cols(), w.rows());
  const int64_t n = x.dim(0);
  const Exec* exec = Exec::current();
  const Numerics numerics = exec && !exec->tape ? exec->numerics : Numerics::kExact;
  if (const ProductWatch* watch = ProductWatch::current()) (*watch)(w, x);
  const auto* bias_data = static_cast<const float*>(bias.view.data);
  if (bias.defined() && bias.view.dtype != kernels::DType::kF32) {
    hold = weight_values(bias);
    bias_data = hold.data();
  }
  y = Tensor::empty({n, w.rows()});
  const bool quantized = n > 0 && kernels::uses_quantized(w.view.dtype, w.cols(), numerics);
  const bool floats = !kernels::uses_quantized(w.view.dtype, 32, Numerics::kFast);
  return {.w = w.view,
          .packed = (quantized || floats) && w.packed ? w.packed->data_for(w.view, n) : nullptr,
          .numerics = numerics,
          .x = x.data(),
          .ld_x = w.cols(),
          .quantized = quantized ? QuantizedForm::of(x, n, w.cols(), with_rest).codes() : nullptr,
          .n_tokens = n,
          .bias = bias_data,
          .y = y.data(),
          .ld_y = w.rows()};
}

// The adapter of all rows of products with w, where it has nothing but Loras as they are added here: no scale to do.
const Adapter* plain_loras(const Weight& w) {
  const Exec* exec = Exec::current();
  if (!exec || exec->tape || !exec->adapters || !exec->adapter_rows.empty()) return nullptr;
  const Adapter* adapter = exec->adapters->find(w);
  const bool plain = adapter && adapter->rows.empty() && !adapter->mask.values.defined() &&
                     std::all_of(adapter->loras.begin(), adapter->loras.end(),
                                 [](const Lora& lora) { return lora.scale == 1 && lora.use != Lora::Use::kLookUps; });
  return plain ? adapter : nullptr;
}

constexpr size_t kMostProducts = 4;

// y[i] += b (a x) for every Lora of products of one x, with the bits of change_product(): one job for the a of all
// products, one for the b. Products whose `adapters` are null stay.
void add_loras(const Tensor& x, std::span<const Adapter* const> adapters, Tensor* y) {
  const Weight none;
  std::array<Job, kMostProducts> jobs;
  std::array<Tensor, kMostProducts> h, sums;
  std::array<size_t, kMostProducts> of;
  Tensor hold;
  for (size_t round = 0;; ++round) {  // the first Lora of each, then the second
    size_t n = 0;
    for (size_t i = 0; i < adapters.size(); ++i) {
      if (adapters[i] && round < adapters[i]->loras.size()) of[n++] = i;
    }
    if (n == 0) return;
    for (size_t j = 0; j < n; ++j) jobs[j] = {args_of(x, adapters[of[j]]->loras[round].of_a, none, h[j], hold)};
    run(std::span(jobs).first(n));
    for (size_t j = 0; j < n; ++j) {
      jobs[j] = {args_of(h[j], adapters[of[j]]->loras[round].of_b, none, sums[j], hold)};
      jobs[j].product.residual = y[of[j]].data();
    }
    run(std::span(jobs).first(n));
    for (size_t j = 0; j < n; ++j) y[of[j]] = std::move(sums[j]);
  }
}

// With the weight as it is, whatever the adapters.
Tensor product(const Tensor& x, const Weight& w, const Weight& bias) {
  Tensor y, hold;
  const Job job{args_of(x, w, bias, y, hold)};
  run({&job, 1});
  if (Tape* tape = current_tape()) {
    const Tensor kept = tape->needs_grad(w.value) ? x : Tensor();
    tape->record(y, {x, w.value, bias.value},
                 [kept, w, dx = ValueId(x), bias = ValueId(bias.value), y = ValueId(y)](Tape& t) {
                   const Tensor dy = t.grad(y);
                   bool first = false;
                   if (t.needs_grad(dx)) {
                     Tensor& into = t.grad(dx, first);
                     backward_to_x(dy, w, into, first);
                   }
                   if (t.needs_grad(w.value)) {
                     Tensor& into = t.grad(w.value, first);
                     backward_to_w(dy, kept, into, first);
                   }
                   if (t.needs_grad(bias)) backward_to_bias(dy, t.grad(bias));
                 });
  }
  return y;
}

}  // namespace

Tensor matmul(const Tensor& x, const Weight& w) { return matmul(x, w, Weight()); }

Tensor matmul(const Tensor& x, const Weight& w, const Weight& bias) {
  if (!is_adapted(w)) return product(x, w, bias);
  if (const Adapter* loras = plain_loras(w)) {
    Tensor y = product(x, w, bias);
    add_loras(x, {&loras, 1}, &y);
    return y;
  }
  const bool all_masked = is_masked(w) && Exec::current()->adapter_rows.empty();
  return change_product(all_masked ? Tensor() : product(x, w, bias), x, w, bias);
}

void matmuls(const Tensor& x, std::span<const Product> products, Tensor* y) {
  constexpr size_t kMost = kMostProducts;
  FOVEA_CHECK(!products.empty() && products.size() <= kMost, "matmuls: {} products, 1 to {} are possible",
              products.size(), kMost);
  if (current_tape()) {
    for (size_t i = 0; i < products.size(); ++i) y[i] = matmul(x, products[i].w, products[i].bias);
    return;
  }
  std::array<Job, kMost> jobs;
  std::array<MatmulArgs, kMost> rests;
  std::array<Tensor, kMost> holds, rest_values;
  const bool any_fine = std::any_of(products.begin(), products.end(), [](const Product& p) { return p.fine; });
  size_t n_jobs = 0;
  for (size_t i = 0; i < products.size(); ++i) {
    if (is_masked(products[i].w)) continue;
    Job& job = jobs[n_jobs++];
    MatmulArgs& args = job.product;
    args = args_of(x, products[i].w, products[i].bias, y[i], holds[i], any_fine);
    if (!products[i].fine || !args.quantized) continue;
    rest_values[i] = Tensor::empty(y[i].shape());
    rests[i] = args;
    rests[i].quantized = QuantizedForm::of(x, args.n_tokens, args.w.cols, true).rest();
    rests[i].bias = nullptr;
    rests[i].y = rest_values[i].data();
    job.rest = &rests[i];
  }
  if (n_jobs > 0) run(std::span(jobs).first(n_jobs));
  std::array<const Adapter*, kMost> loras = {};
  for (size_t i = 0; i < products.size(); ++i) {
    const auto& [w, bias, fine] = products[i];
    loras[i] = plain_loras(w);
    if (loras[i] || !is_adapted(w)) continue;
    y[i] = is_masked(w) ? matmul(x, w, bias) : change_product(std::move(y[i]), x, w, bias);
  }
  if (std::any_of(loras.begin(), loras.end(), [](const Adapter* one) { return one != nullptr; }))
    add_loras(x, std::span(loras).first(products.size()), y);
}

Tensor matmul_add(const Tensor& residual, const Tensor& x, const Linear& by, float factor) {
  if (current_tape() || is_adapted(by.w)) {
    const Tensor y = matmul(x, by.w, by.bias);
    return add(residual, factor == 1 ? y : affine(y, factor));
  }
  Tensor y, hold;
  Job job{args_of(x, by.w, by.bias, y, hold)};
  job.product.residual = residual.data(), job.product.factor = factor;
  FOVEA_CHECK(residual.shape() == y.shape(), "matmul_add: shapes {} and {} differ", residual.shape().to_string(),
              y.shape().to_string());
  run({&job, 1});
  return y;
}

Tensor matmul_gated(const Tensor& x, const Linear& gate, const Linear& up, Activation act, Next next) {
  if (current_tape() || is_adapted(gate.w) || is_adapted(up.w)) {
    const auto [of_gate, of_up] = matmuls(x, {{gate.w, gate.bias}, {up.w, up.bias}});
    return gated(of_gate, of_up, act);
  }
  FOVEA_CHECK(gate.w.rows() == up.w.rows(), "matmul_gated: {} has {} rows, {} has {}", gate.w.name, gate.w.rows(),
              up.w.name, up.w.rows());
  Tensor y, values, hold, hold_up;
  Job job{args_of(x, gate.w, gate.bias, y, hold)};
  const MatmulArgs up_product = args_of(x, up.w, up.bias, values, hold_up);
  job.product.up = &up_product, job.product.act = act;
  const int64_t n = x.dim(0), cols = gate.w.rows();
  if (wants_form(next, cols)) job.form = &QuantizedForm::begin(y, n, cols, /*with_rest=*/false);
  run({&job, 1});
  return y;
}

Tensor matmul_activated(const Tensor& x, const Linear& by, Activation act, Next next) {
  if (current_tape() || is_adapted(by.w)) return activate(matmul(x, by.w, by.bias), act);
  Tensor y, hold;
  Job job{args_of(x, by.w, by.bias, y, hold)};
  job.activates = true, job.product.act = act;
  const int64_t n = x.dim(0), cols = by.w.rows();
  if (wants_form(next, cols)) job.form = &QuantizedForm::begin(y, n, cols, /*with_rest=*/false);
  run({&job, 1});
  return y;
}

}  // namespace fovea::tensor
