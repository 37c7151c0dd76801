#include "fovea/tensor/ops/product/jobs.h"

#include <algorithm>
#include <cstddef>

#include "fovea/base/threads.h"
#include "fovea/kernels/sgemm.h"
#include "fovea/kernels/vector.h"
#include "fovea/tensor/exec.h"
#include "fovea/tensor/scratch.h"

namespace fovea::tensor {
namespace {

using kernels::kPanelRows;
using kernels::MatmulArgs;

// How a product is cut into tasks: panels of rows, and blocks of tokens where those are many. The
// kernel gives the same bits for any cut.
struct Cut {
  int64_t panels, tokens;  // per task
};

Cut cut_of(int64_t n_panels, int64_t n_tokens, const MatmulArgs& like, int n_threads) {
  constexpr int64_t kTasksPerThread = 4;     // evens out threads that start late
  constexpr int64_t kLeastWork = 64 * 1024;  // multiplications that are worth a task
  constexpr int64_t kTile = 12;              // tokens that a kernel takes at once, or a multiple of them
  constexpr int64_t kMany = 9;               // tokens for which two panels are read together
  // Activations of a task stay in a second-level cache, or, where registers are wide and to spread the weight again
  // costs more than to read them, not far from it; where each task would widen the panels of its rows for itself, they
  // are more. Parts are alike: what is left over would spread the weight again for a few tokens.
  const int64_t cols = std::max<int64_t>(1, like.w.cols);
  const bool floats = !like.quantized && like.packed, wide = kernels::active_isa() == kernels::Isa::kAvx512;
  const bool int16 = form_of(like) == kernels::WeightForm::kInt16;  // read as they lie: nothing is spread
  const int64_t most = std::max<int64_t>(64, (floats ? 128 : wide ? 1024 : 256) * 1024 / cols / (int16 ? 4 : 1));
  const int64_t n_parts = std::max<int64_t>(1, (n_tokens + most - 1) / most);
  const int64_t tokens = std::min(n_tokens, ((n_tokens + n_parts - 1) / n_parts + kTile - 1) / kTile * kTile);
  const int64_t share = (n_panels + kTasksPerThread * n_threads - 1) / (kTasksPerThread * n_threads);
  const int64_t least = (kLeastWork + kPanelRows * cols * tokens - 1) / (kPanelRows * cols * tokens);
  const int64_t panels = std::max(share, least), even = tokens < kMany ? panels : panels + panels % 2;
  return {std::min(n_panels, even), tokens};
}

// As many that their columns of y have scales of their own.
int64_t whole_blocks(int64_t panels, const QuantizedForm& form) {
  const int64_t block = kernels::columns_per_scale(form.kind()) / kPanelRows;
  return (panels + block - 1) / block * block;
}

void do_part(const Job& job, const MatmulArgs& part) {
  kernels::matmul(part);
  if (job.rest) {
    MatmulArgs same = *job.rest;
    same.row_begin = part.row_begin, same.row_end = part.row_end;
    same.token_begin = part.token_begin, same.token_end = part.token_end;
    same.scratch = part.scratch;
    kernels::matmul(same);
  }
  if (!job.rest && !job.activates && !job.onto && !job.form) return;
  const int64_t n = part.row_end - part.row_begin;
  for (int64_t t = part.token_begin; t < part.token_end; ++t) {
    const int64_t at = t * part.ld_y + part.row_begin;
    float* y = part.y + at;
    if (job.activates) kernels::activate(part.act, y, n, y);
    if (job.rest) kernels::add(job.rest->y + at, y, n, y);
    if (job.onto && job.factor != 1) kernels::scale(n, job.factor, y, y);
    if (job.onto) kernels::add(job.onto + at, y, n, y);
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
  if (g.residual || g.up || job.rest || job.activates || job.onto ||
      kernels::sgemm_block.used() == kernels::Isa::kPortable)
    return false;
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

int64_t panels_of(const Job& job) { return (job.product.w.rows + kPanelRows - 1) / kPanelRows; }

size_t scratch_of(const Job& job) {
  const size_t bytes = kernels::matmul_scratch_bytes(job.product.w);
  const MatmulArgs* up = job.product.up;
  return up ? std::max(bytes, kernels::matmul_scratch_bytes(up->w)) : bytes;
}

// One for each thread of the pool, owned by the caller: grown here, never inside a task.
class Slices {
 public:
  explicit Slices(size_t bytes) : slice_((bytes + 127) / 128 * 128) {
    thread_local Scratch scratch;
    all_ = scratch.at_least(slice_ * static_cast<size_t>(pool().size()));
  }
  std::byte* of(int thread) const { return all_ + slice_ * static_cast<size_t>(thread); }

 private:
  size_t slice_;
  std::byte* all_;
};

}  // namespace

void run(std::span<const Job> jobs) {
  if (jobs.size() == 1 && do_whole(jobs[0])) return;
  const int64_t n_tokens = jobs[0].product.n_tokens;
  int64_t n_panels = 0;
  size_t scratch_bytes = 0;
  for (const Job& job : jobs) {
    n_panels += panels_of(job);
    scratch_bytes = std::max(scratch_bytes, scratch_of(job));
  }
  if (n_panels == 0 || n_tokens == 0) return;
  const Slices scratch(scratch_bytes);
  Cut cut = cut_of(n_panels, n_tokens, jobs[0].product, pool().size());
  if (jobs[0].form) cut.panels = whole_blocks(cut.panels, *jobs[0].form);
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
    part.scratch = scratch.of(thread);
    do_part(*job, part);
  });
}

void run_own_tokens(std::span<const Job> jobs) {
  int64_t n_panels = 0;
  size_t scratch_bytes = 0;
  for (const Job& job : jobs) {
    n_panels += panels_of(job);
    scratch_bytes = std::max(scratch_bytes, scratch_of(job));
  }
  if (n_panels == 0) return;
  const Slices scratch(scratch_bytes);
  struct Tasks {
    int64_t step, tokens, rows, n;  // rows and tokens of one; tasks side by side over rows; in all
  };
  const auto tasks_of = [n_panels](const Job& job) {
    const MatmulArgs& g = job.product;
    const int64_t n_tokens = g.token_end - g.token_begin;
    Cut cut = cut_of(n_panels, std::max<int64_t>(1, n_tokens), g, pool().size());
    cut.panels = std::min(cut.panels, panels_of(job));
    if (job.form) cut.panels = whole_blocks(cut.panels, *job.form);
    const int64_t step = cut.panels * kPanelRows, rows = (g.w.rows + step - 1) / step;
    return Tasks{step, cut.tokens, rows, rows * ((n_tokens + cut.tokens - 1) / cut.tokens)};
  };
  int64_t n_tasks = 0;
  for (const Job& job : jobs) n_tasks += tasks_of(job).n;
  pool().for_each(n_tasks, [&](int64_t index, int thread) {
    const Job* job = jobs.data();
    Tasks tasks = tasks_of(*job);
    for (; index >= tasks.n; tasks = tasks_of(*++job)) index -= tasks.n;
    MatmulArgs part = job->product;
    part.row_begin = index % tasks.rows * tasks.step;
    part.row_end = std::min(part.w.rows, part.row_begin + tasks.step);
    part.token_begin += index / tasks.rows * tasks.tokens;
    part.token_end = std::min(part.token_end, part.token_begin + tasks.tokens);
    part.scratch = scratch.of(thread);
    do_part(*job, part);
  });
}

}  // namespace fovea::tensor
