#include "fovea/tensor/ops/product/matmul.h"

#include <algorithm>
#include <utility>

#include "fovea/base/check.h"
#include "fovea/kernels/matmul.h"
#include "fovea/kernels/sgemm.h"
#include "fovea/kernels/vector.h"
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
    for (int64_t t = 0; t < n; ++t) kernels::add(to + begin, dy.data() + t * rows + begin, end - begin, to + begin);
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
  const kernels::WeightForm form = kernels::form_of(w.view.dtype, w.cols(), numerics);
  const bool quantized = n > 0 && kernels::takes_codes(form);
  return {.w = w.view,
          .packed = w.packed ? w.packed->data_for(w.view, n, numerics) : nullptr,
          .numerics = numerics,
          .x = x.data(),
          .ld_x = w.cols(),
          .quantized = quantized ? QuantizedForm::of(x, n, w.cols(), form, with_rest).codes() : nullptr,
          .n_tokens = n,
          .bias = bias_data,
          .y = y.data(),
          .ld_y = w.rows()};
}

// The Lora of all rows of products with w, where its adapter has nothing else and no scale is left to do.
const Lora* only_lora(const Weight& w) {
  const Exec* exec = Exec::current();
  if (!exec || exec->tape || !exec->adapters || !exec->adapter_rows.empty()) return nullptr;
  const Adapter* adapter = exec->adapters->find(w);
  if (!adapter || !adapter->rows.empty() || adapter->mask.values.defined() || adapter->loras.size() != 1)
    return nullptr;
  const Lora& lora = adapter->loras[0];
  return lora.scale == 1 && lora.use != Lora::Use::kLookUps ? &lora : nullptr;
}

constexpr size_t kMostProducts = 4;

// Products with weights and with the a of their Loras, all of one x: `n` of the weights come first. Of few tokens they
// are one job; of many each is large enough, and a single one may be done as a whole.
void run_beside(std::span<const Job> jobs, size_t n) {
  constexpr int64_t kFew = 8;
  if (jobs[0].product.n_tokens < kFew) return run(jobs);
  run(jobs.first(n));
  run(jobs.subspan(n));
}

// y + b (a x) for y = x w + bias, and what `then` says of it, with the bits of change_product().
Tensor lora_product(const Tensor& x, const Linear& by, const Lora& lora, Job then, Next next = Next::kAnything) {
  const Weight none;
  Tensor y, h, out, holds[3];
  const Job jobs[] = {{args_of(x, by.w, by.bias, y, holds[0])}, {args_of(x, lora.of_a, none, h, holds[1])}};
  run_beside(jobs, 1);
  const Activation act = then.product.act;
  then.product = args_of(h, lora.of_b, none, out, holds[2]);
  then.product.residual = y.data(), then.product.act = act;
  const int64_t n = x.dim(0), cols = by.w.rows();
  if (then.activates && wants_form(next, cols)) then.form = &QuantizedForm::begin(out, n, cols, /*with_rest=*/false);
  run({&then, 1});
  return out;
}

// matmul_gated() where both weights have a Lora.
Tensor lora_gated(const Tensor& x, const Linear& gate, const Linear& up, const Lora& of_gate, const Lora& of_up,
                  Activation act, Next next) {
  const Weight none;
  Tensor y, y_up, h, h_up, out, out_up, holds[6];
  const Job jobs[] = {{args_of(x, gate.w, gate.bias, y, holds[0])},
                      {args_of(x, up.w, up.bias, y_up, holds[1])},
                      {args_of(x, of_gate.of_a, none, h, holds[2])},
                      {args_of(x, of_up.of_a, none, h_up, holds[3])}};
  run_beside(jobs, 2);
  Job then{args_of(h, of_gate.of_b, none, out, holds[4])};
  MatmulArgs up_product = args_of(h_up, of_up.of_b, none, out_up, holds[5]);
  then.product.residual = y.data(), up_product.residual = y_up.data();
  then.product.up = &up_product, then.product.act = act;
  const int64_t n = x.dim(0), cols = gate.w.rows();
  if (wants_form(next, cols)) then.form = &QuantizedForm::begin(out, n, cols, /*with_rest=*/false);
  run({&then, 1});
  return out;
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
  if (const Lora* lora = only_lora(w)) return lora_product(x, {w, bias}, *lora, {});
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
  std::array<Job, 2 * kMost> jobs;  // with the weights, then with the a of their Loras
  std::array<MatmulArgs, kMost> rests;
  std::array<Tensor, kMost> holds, rest_values, h, sums;
  const bool any_fine = std::any_of(products.begin(), products.end(), [](const Product& p) { return p.fine; });
  size_t n_jobs = 0, n_loras = 0;
  for (size_t i = 0; i < products.size(); ++i) {
    if (is_masked(products[i].w)) continue;
    Job& job = jobs[n_jobs++];
    MatmulArgs& args = job.product;
    args = args_of(x, products[i].w, products[i].bias, y[i], holds[i], any_fine);
    if (!products[i].fine || !args.quantized || form_of(args) != kernels::WeightForm::kInt8) continue;
    rest_values[i] = Tensor::empty(y[i].shape());
    rests[i] = args;
    rests[i].quantized = QuantizedForm::of(x, args.n_tokens, args.w.cols, kernels::WeightForm::kInt8, true).rest();
    rests[i].bias = nullptr;
    rests[i].y = rest_values[i].data();
    job.rest = &rests[i];
  }
  std::array<const Lora*, kMost> loras = {};
  std::array<size_t, kMost> of = {};  // the products that have one
  const Weight none;
  Tensor no_hold;
  for (size_t i = 0; i < products.size(); ++i) {
    loras[i] = only_lora(products[i].w);
    if (!loras[i]) continue;
    jobs[n_jobs + n_loras] = {args_of(x, loras[i]->of_a, none, h[i], no_hold)};
    of[n_loras++] = i;
  }
  if (n_loras > 0) {
    run_beside(std::span(jobs).first(n_jobs + n_loras), n_jobs);
    for (size_t j = 0; j < n_loras; ++j) {
      jobs[j] = {args_of(h[of[j]], loras[of[j]]->of_b, none, sums[j], no_hold)};
      jobs[j].product.residual = y[of[j]].data();
    }
    run(std::span(jobs).first(n_loras));
    for (size_t j = 0; j < n_loras; ++j) y[of[j]] = std::move(sums[j]);
  } else if (n_jobs > 0) {
    run(std::span(jobs).first(n_jobs));
  }
  for (size_t i = 0; i < products.size(); ++i) {
    const auto& [w, bias, fine] = products[i];
    if (loras[i] || !is_adapted(w)) continue;
    y[i] = is_masked(w) ? matmul(x, w, bias) : change_product(std::move(y[i]), x, w, bias);
  }
}

Tensor matmul_add(const Tensor& residual, const Tensor& x, const Linear& by, float factor) {
  if (const Lora* lora = only_lora(by.w)) {
    Job then;
    then.onto = residual.data(), then.factor = factor;
    FOVEA_CHECK(residual.shape() == Shape({x.dim(0), by.w.rows()}), "matmul_add: shapes {} and [{}, {}] differ",
                residual.shape().to_string(), x.dim(0), by.w.rows());
    return lora_product(x, by, *lora, then);
  }
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
  const Lora *of_gate = only_lora(gate.w), *of_up = only_lora(up.w);
  if (of_gate && of_up && gate.w.rows() == up.w.rows()) return lora_gated(x, gate, up, *of_gate, *of_up, act, next);
  if (current_tape() || is_adapted(gate.w) || is_adapted(up.w)) {
    const auto [g, u] = matmuls(x, {{gate.w, gate.bias}, {up.w, up.bias}});
    return gated(g, u, act);
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
  if (const Lora* lora = only_lora(by.w)) {
    Job then;
    then.activates = true, then.product.act = act;
    return lora_product(x, by, *lora, then, next);
  }
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
