#include "fovea/tensor/ops/product/matmul.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "fovea/base/check.h"
#include "fovea/base/threads.h"
#include "fovea/kernels/matmul.h"
#include "fovea/kernels/sgemm.h"
#include "fovea/kernels/vector.h"
#include "fovea/tensor/exec.h"
#include "fovea/tensor/ops/for_rows.h"
#include "fovea/tensor/ops/math/add.h"
#include "fovea/tensor/ops/math/silu.h"
#include "fovea/tensor/ops/product/adapted.h"
#include "fovea/tensor/ops/quantized_form.h"
#include "fovea/tensor/product_watch.h"
#include "fovea/tensor/scratch.h"
#include "fovea/tensor/tape.h"

namespace fovea::tensor {
namespace {

using kernels::kPanelRows;
using kernels::MatmulArgs;

// How a product is cut into tasks: panels of rows, and blocks of tokens where those are many. The
// kernel gives the same bits for any cut.
struct Cut {
  int64_t panels, tokens;  // per task
};

Cut cut_of(int64_t n_panels, int64_t n_tokens, int64_t cols, int n_threads) {
  constexpr int64_t kTasksPerThread = 4;       // evens out threads that start late
  constexpr int64_t kLeastWork = 64 * 1024;    // multiplications that are worth a task
  constexpr int64_t kTokenBytes = 256 * 1024;  // activations of a task stay in a second-level cache
  const int64_t tokens = std::min(n_tokens, std::max<int64_t>(64, kTokenBytes / cols / 64 * 64));
  const int64_t share = (n_panels + kTasksPerThread * n_threads - 1) / (kTasksPerThread * n_threads);
  const int64_t least = (kLeastWork + kPanelRows * cols * tokens - 1) / (kPanelRows * cols * tokens);
  return {std::min(n_panels, std::max(share, least)), tokens};
}

// A product, and what is done with each part of it while that is in the cache.
struct Job {
  MatmulArgs product;
  const float* residual = nullptr;   // [n_tokens, rows]: y = residual + y
  const MatmulArgs* up = nullptr;    // y = silu(y) * up, its product with the same rows
  const MatmulArgs* rest = nullptr;  // y = rest + y, its product with the same rows
  QuantizedForm* form = nullptr;     // y's, for the product that follows `up`
};

void do_part(const Job& job, const MatmulArgs& part) {
  kernels::matmul(part);
  const MatmulArgs* second = job.up ? job.up : job.rest;
  if (second) {
    MatmulArgs same = *second;
    same.row_begin = part.row_begin, same.row_end = part.row_end;
    same.token_begin = part.token_begin, same.token_end = part.token_end;
    same.scratch = part.scratch;
    kernels::matmul(same);
  }
  if (!second && !job.residual) return;
  const int64_t n = part.row_end - part.row_begin;
  for (int64_t t = part.token_begin; t < part.token_end; ++t) {
    const int64_t at = t * part.ld_y + part.row_begin;
    if (job.up) kernels::swiglu(part.y + at, job.up->y + at, n, part.y + at);
    if (job.rest) kernels::add(job.rest->y + at, part.y + at, n, part.y + at);
    if (job.residual) kernels::add(job.residual + at, part.y + at, n, part.y + at);
    if (job.form) job.form->fill_columns(part.y, part.ld_y, t, t + 1, part.row_begin, part.row_end);
  }
}

// Both sides in float32 and many tokens: the product of matrices, with the same bits as kernels::matmul where that
// fuses multiply and add too.
bool do_whole(const Job& job) {
  constexpr int64_t kMany = 8;
  const MatmulArgs& g = job.product;
  if (g.w.dtype != kernels::DType::kF32 || g.numerics != Numerics::kExact || g.n_tokens < kMany || g.packed)
    return false;
  if (job.residual || job.up || job.rest || kernels::sgemm_block.used() == kernels::Isa::kPortable) return false;
  kernels::sgemm({.m = g.n_tokens,
                  .n = g.w.rows,
                  .k = g.w.cols,
                  .a = g.x,
                  .ld_a = g.ld_x,
                  .b = static_cast<const float*>(g.w.data),
                  .ld_b = g.w.cols,
                  .b_transposed = true,
                  .c = g.y,
                  .ld_c = g.ld_y,
                  .bias = g.bias});
  return true;
}

// Runs whole products of one input (their ranges and scratch are filled in here) as one job of the pool.
void run(std::span<const Job> jobs) {
  if (jobs.size() == 1 && do_whole(jobs[0])) return;
  const int64_t n_tokens = jobs[0].product.n_tokens;
  int64_t n_panels = 0;
  size_t scratch_bytes = 0;
  for (const Job& job : jobs) {
    n_panels += (job.product.w.rows + kPanelRows - 1) / kPanelRows;
    scratch_bytes = std::max(scratch_bytes, kernels::matmul_scratch_bytes(job.product.w));
    if (job.up) scratch_bytes = std::max(scratch_bytes, kernels::matmul_scratch_bytes(job.up->w));
  }
  if (n_panels == 0 || n_tokens == 0) return;
  // One slice per thread of the pool, owned by the caller: grown here, never inside a task.
  thread_local Scratch scratch;
  const size_t slice = (scratch_bytes + 127) / 128 * 128;
  std::byte* slices = scratch.at_least(slice * static_cast<size_t>(pool().size()));
  Cut cut = cut_of(n_panels, n_tokens, std::max<int64_t>(1, jobs[0].product.w.cols), pool().size());
  if (jobs[0].form) cut.panels += cut.panels % 2;  // whole blocks of 32 columns of y
  const int64_t step = cut.panels * kPanelRows;
  const auto tasks_of = [step](const Job& job) { return (job.product.w.rows + step - 1) / step; };
  int64_t row_tasks = 0;  // of all products
  for (const Job& job : jobs) row_tasks += tasks_of(job);
  const int64_t token_tasks = (n_tokens + cut.tokens - 1) / cut.tokens;
  pool().for_each(row_tasks * token_tasks, [&](int64_t index, int thread) {
    int64_t row_task = index % row_tasks;
    const Job* job = jobs.data();
    for (; row_task >= tasks_of(*job); ++job) row_task -= tasks_of(*job);
    MatmulArgs part = job->product;
    part.row_begin = row_task * step;
    part.row_end = std::min(part.w.rows, part.row_begin + step);
    part.token_begin = index / row_tasks * cut.tokens;
    part.token_end = std::min(n_tokens, part.token_begin + cut.tokens);
    part.scratch = slices + slice * static_cast<size_t>(thread);
    do_part(*job, part);
  });
}

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

bool is_masked(const Adapter* adapter) { return adapter && adapter->mask.values.defined(); }

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
  const Adapter* adapter = adapter_of(w);
  if (!adapter) return product(x, w, bias);
  Tensor y = is_masked(adapter) ? product(x, masked_weight(w, adapter->mask), bias) : product(x, w, bias);
  return change_product(std::move(y), x, bias, *adapter);
}

void matmuls(const Tensor& x, std::span<const Product> products, Tensor* y) {
  constexpr size_t kMost = 4;
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
    if (is_masked(adapter_of(products[i].w))) continue;
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
  for (size_t i = 0; i < products.size(); ++i) {
    const Adapter* adapter = adapter_of(products[i].w);
    if (!adapter) continue;
    y[i] = is_masked(adapter) ? matmul(x, products[i].w, products[i].bias)
                              : change_product(std::move(y[i]), x, products[i].bias, *adapter);
  }
}

Tensor matmul_add(const Tensor& residual, const Tensor& x, const Weight& w) {
  if (current_tape() || adapter_of(w)) return add(residual, matmul(x, w));
  Tensor y, hold;
  const Job job{args_of(x, w, Weight(), y, hold), residual.data()};
  FOVEA_CHECK(residual.shape() == y.shape(), "matmul_add: shapes {} and {} differ", residual.shape().to_string(),
              y.shape().to_string());
  run({&job, 1});
  return y;
}

Tensor matmul_swiglu(const Tensor& x, const Weight& w_gate, const Weight& w_up, Next next) {
  if (current_tape() || adapter_of(w_gate) || adapter_of(w_up)) return swiglu(matmul(x, w_gate), matmul(x, w_up));
  FOVEA_CHECK(w_gate.rows() == w_up.rows(), "matmul_swiglu: {} has {} rows, {} has {}", w_gate.name, w_gate.rows(),
              w_up.name, w_up.rows());
  Tensor y, up, hold;
  Job job{args_of(x, w_gate, Weight(), y, hold)};
  const MatmulArgs up_product = args_of(x, w_up, Weight(), up, hold);
  job.up = &up_product;
  const int64_t n = x.dim(0), cols = w_gate.rows();
  if (wants_form(next, cols)) job.form = &QuantizedForm::begin(y, n, cols, /*with_rest=*/false);
  run({&job, 1});
  return y;
}

}  // namespace fovea::tensor
