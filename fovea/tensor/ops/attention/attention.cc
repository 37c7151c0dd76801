#include "fovea/tensor/ops/attention/attention.h"

#include <algorithm>
#include <map>
#include <memory>
#include <numeric>
#include <vector>

#include "fovea/base/check.h"
#include "fovea/base/threads.h"
#include "fovea/kernels/attention_backward.h"
#include "fovea/tensor/ops/attention/float_pages.h"
#include "fovea/tensor/ops/attention/per_thread.h"
#include "fovea/tensor/tape.h"

namespace fovea::tensor {
namespace {

struct AttentionSizes {
  int64_t n_heads, n_kv_heads;  // of keys or of values, whichever are more
  int k_dim, v_dim;
  int group() const { return static_cast<int>(n_heads / n_kv_heads); }
  int k_page() const { return (k_dim + 7) / 8 * 8; }  // pages hold multiples of 8
  int v_page() const { return (v_dim + 7) / 8 * 8; }
};

// The tokens of one sequence by rising position; where they lie so already, they are read in place.
struct Run {
  std::vector<int32_t> rows, positions;
  bool in_place = true;
  int64_t n() const { return static_cast<int64_t>(rows.size()); }
};

std::vector<Run> runs_of(std::span<const int32_t> positions, std::span<const int32_t> sequences) {
  std::map<int32_t, Run> by_sequence;
  for (size_t i = 0; i < sequences.size(); ++i) by_sequence[sequences[i]].rows.push_back(static_cast<int32_t>(i));
  std::vector<Run> runs;
  for (auto& [sequence, run] : by_sequence) {
    std::stable_sort(run.rows.begin(), run.rows.end(), [&](int32_t a, int32_t b) {
      return positions[static_cast<size_t>(a)] < positions[static_cast<size_t>(b)];
    });
    for (size_t i = 0; i < run.rows.size(); ++i) {
      run.positions.push_back(positions[static_cast<size_t>(run.rows[i])]);
      run.in_place = run.in_place && run.rows[i] == run.rows[0] + static_cast<int32_t>(i);
    }
    runs.push_back(std::move(run));
  }
  return runs;
}

// The rows of a run in a tensor [n, heads, width]: where they lie, or gathered with every head `wide` floats, and
// repeated where there are to be more heads.
struct Rows {
  Tensor held;
  float* data = nullptr;
  int64_t ld = 0;

  Rows() = default;
  Rows(const Tensor& x, const Run& run, int64_t heads, int64_t wide) {
    const int64_t fewer = x.dim(1), width = x.dim(2);
    if (run.in_place && wide == width && fewer == heads) {
      held = x, ld = heads * width, data = held.data() + run.rows[0] * ld;
      return;
    }
    held = Tensor::zeros({run.n(), heads, wide}), data = held.data(), ld = heads * wide;
    for (int64_t i = 0; i < run.n(); ++i) {
      const float* from = x.data() + run.rows[static_cast<size_t>(i)] * fewer * width;
      for (int64_t h = 0; h < heads; ++h)
        std::copy_n(from + h * fewer / heads * width, width, data + i * ld + h * wide);
    }
  }
  // x += the rows, unless they are x's own; neighbouring heads of the rows add up where x has fewer.
  void put_back(Tensor& x, const Run& run) const {
    if (held.id() == x.id()) return;
    const int64_t heads = held.dim(1), fewer = x.dim(1), width = x.dim(2), wide = held.dim(2);
    for (int64_t i = 0; i < run.n(); ++i) {
      float* to = x.data() + run.rows[static_cast<size_t>(i)] * fewer * width;
      for (int64_t h = 0; h < heads; ++h) {
        const int64_t x_head = h * fewer / heads;
        for (int64_t c = 0; c < width; ++c) to[x_head * width + c] += data[i * ld + h * wide + c];
      }
    }
  }
};

// fn(i) for every run: many go beside each other, few share the threads one after the other.
template <typename Fn>
void each_run(const std::vector<Run>& runs, const Fn& fn) {
  const auto n = static_cast<int64_t>(runs.size());
  const auto one = [&](int64_t i, int) { fn(static_cast<size_t>(i)); };
  if (n >= 2 * pool().size()) return pool().for_each(n, one);
  for (int64_t i = 0; i < n; ++i) one(i, 0);
}

constexpr int32_t kAfterAll = kernels::kNoPosition - 1;  // sees every key

std::vector<int32_t> query_positions(const Run& run, bool causal) {
  return causal ? run.positions : std::vector<int32_t>(run.positions.size(), kAfterAll);
}

// z of a run, and its log-sum-exps [n_kv_heads, n, group].
Tensor forward(const Run& run, const AttentionSizes& sizes, const AttentionOptions& options, const Tensor& q,
               const Tensor& k, const Tensor& v, Tensor& z) {
  const int k_dim = sizes.k_page(), dim = sizes.v_page(), group = sizes.group();
  const int64_t n = run.n();
  const Rows rows(q, run, sizes.n_heads, k_dim);
  const Rows keys(k, run, sizes.n_kv_heads, k_dim), values(v, run, sizes.n_kv_heads, dim);
  const FloatPages pages(sizes.n_kv_heads, {keys.data, keys.ld, k_dim}, {values.data, values.ld, dim}, run.positions);
  const std::vector<int32_t> at = query_positions(run, options.causal);
  const bool direct = run.in_place && sizes.v_dim == dim;
  Rows out;
  if (direct) {
    out = Rows(z, run, sizes.n_heads, dim);
  } else {
    out.held = Tensor::empty({n, sizes.n_heads, dim}), out.data = out.held.data(), out.ld = sizes.n_heads * dim;
  }
  Tensor lse = Tensor::empty({sizes.n_kv_heads, n, group});
  kernels::AttentionArgs args;
  args.k_type = args.v_type = kernels::KvType::kF32;
  args.k_dim = k_dim, args.v_dim = dim, args.group = group, args.scale = options.scale;
  args.ld_q = rows.ld, args.ld_z = out.ld, args.rule = options.rule, args.n_blocks = pages.per_head();
  args.softcap = options.softcap;
  const int64_t chunk = std::max<int64_t>(16, 192 / group), chunks = (n + chunk - 1) / chunk;
  args.n_queries = chunk;
  PerThread scratch(kernels::attention_scratch_bytes(args));
  pool().for_each(sizes.n_kv_heads * chunks, [&](int64_t task, int thread) {
    const int64_t head = task / chunks, first = (chunks - 1 - task % chunks) * chunk;  // the longest first
    kernels::AttentionArgs part = args;
    part.n_queries = std::min(chunk, n - first);
    part.q = rows.data + first * rows.ld + head * group * k_dim;
    part.q_pos = at.data() + first;
    part.blocks = pages.of(head).data();
    part.z = out.data + first * out.ld + head * group * dim;
    part.lse = lse.data() + (head * n + first) * group;
    part.scratch = scratch.at(thread);
    kernels::attention(part);
  });
  if (direct) return lse;
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t h = 0; h < sizes.n_heads; ++h)
      std::copy_n(out.data + i * out.ld + h * dim, sizes.v_dim,
                  z.data() + (run.rows[static_cast<size_t>(i)] * sizes.n_heads + h) * sizes.v_dim);
  }
  return lse;
}

struct Kept {
  AttentionSizes sizes;
  AttentionOptions options;
  std::vector<Run> runs;
  std::vector<Tensor> lse;
  Tensor q, k, v, z;
};

// `into`: gradients of q, k and v, null where none is wanted.
void backward(const Kept& kept, const Run& run, const Tensor& lse, const Tensor& z_grad, Tensor* const (&into)[3]) {
  const AttentionSizes& sizes = kept.sizes;
  const int group = sizes.group();
  const Rows q(kept.q, run, sizes.n_heads, sizes.k_dim), k(kept.k, run, sizes.n_kv_heads, sizes.k_dim),
      v(kept.v, run, sizes.n_kv_heads, sizes.v_dim), z(kept.z, run, sizes.n_heads, sizes.v_dim),
      dz(z_grad, run, sizes.n_heads, sizes.v_dim);
  const std::vector<int32_t> at = query_positions(run, kept.options.causal);
  Rows grads[3];
  for (int i = 0; i < 3; ++i) {
    if (!into[i]) continue;
    const Tensor& grad = *into[i];
    const int64_t heads = i == 0 ? sizes.n_heads : sizes.n_kv_heads;  // a sum of its own for each: threads write them
    if (run.in_place && grad.dim(1) == heads) {
      grads[i] = Rows(grad, run, heads, grad.dim(2));
    } else {
      grads[i].held = Tensor::zeros({run.n(), heads, grad.dim(2)});
      grads[i].data = grads[i].held.data(), grads[i].ld = heads * grad.dim(2);
    }
  }
  PerThread scratch(kernels::attention_backward_scratch_bytes(sizes.k_dim, sizes.v_dim));
  pool().for_each(sizes.n_kv_heads, [&](int64_t head, int thread) {
    const int64_t q_at = head * group * sizes.k_dim, z_at = head * group * sizes.v_dim;
    kernels::AttentionBackwardArgs args{.k_dim = sizes.k_dim, .v_dim = sizes.v_dim, .group = group};
    args.scale = kept.options.scale, args.softcap = kept.options.softcap, args.rule = kept.options.rule;
    args.n_queries = args.n_keys = run.n();
    args.q = q.data + q_at, args.ld_q = q.ld, args.q_pos = at.data();
    args.k = k.data + head * sizes.k_dim, args.ld_k = k.ld;
    args.v = v.data + head * sizes.v_dim, args.ld_v = v.ld, args.k_pos = run.positions.data();
    args.z = z.data + z_at, args.ld_z = z.ld, args.dz = dz.data + z_at, args.ld_dz = dz.ld;
    args.lse = lse.data() + head * run.n() * group;
    if (grads[0].data) args.dq = grads[0].data + q_at;
    if (grads[1].data) args.dk = grads[1].data + head * sizes.k_dim;
    if (grads[2].data) args.dv = grads[2].data + head * sizes.v_dim;
    args.scratch = scratch.at(thread);
    kernels::attention_backward(args);
  });
  for (int i = 0; i < 3; ++i) {
    if (grads[i].data) grads[i].put_back(*into[i], run);
  }
}

}  // namespace

Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, std::span<const int32_t> positions,
                 std::span<const int32_t> sequences, const AttentionOptions& options) {
  FOVEA_CHECK(q.shape().rank() == 3 && k.shape().rank() == 3 && v.shape().rank() == 3 && q.dim(0) == k.dim(0) &&
                  k.dim(0) == v.dim(0) && q.dim(2) == k.dim(2) && k.dim(1) > 0 && v.dim(1) > 0 &&
                  std::max(k.dim(1), v.dim(1)) % std::min(k.dim(1), v.dim(1)) == 0 &&
                  q.dim(1) % std::max(k.dim(1), v.dim(1)) == 0 && q.dim(2) > 0 && q.dim(2) <= 256 && v.dim(2) > 0 &&
                  v.dim(2) <= 256,
              "attention: q {}, k {}, v {} do not fit", q.shape().to_string(), k.shape().to_string(),
              v.shape().to_string());
  FOVEA_CHECK(static_cast<int64_t>(positions.size()) == q.dim(0) && positions.size() == sequences.size(),
              "attention: {} tokens with {} positions and {} sequence ids", q.dim(0), positions.size(),
              sequences.size());
  FOVEA_CHECK(options.causal || options.rule.window == kernels::KeyRule().window,
              "attention: a window of {} needs causal attention", options.rule.window);
  auto kept = std::make_shared<Kept>();
  kept->sizes = {q.dim(1), std::max(k.dim(1), v.dim(1)), static_cast<int>(q.dim(2)), static_cast<int>(v.dim(2))};
  kept->options = options;
  kept->runs = runs_of(positions, sequences);
  Tensor z = Tensor::empty({q.dim(0), q.dim(1), v.dim(2)});
  kept->lse.resize(kept->runs.size());
  each_run(kept->runs, [&](size_t i) { kept->lse[i] = forward(kept->runs[i], kept->sizes, options, q, k, v, z); });
  if (Tape* tape = current_tape()) {
    kept->q = q, kept->k = k, kept->v = v, kept->z = z;
    tape->record(z, {q, k, v}, [kept = std::shared_ptr<const Kept>(std::move(kept))](Tape& t) {
      const auto grad = [&t](const Tensor& x) { return t.needs_grad(x) ? &t.grad(x) : nullptr; };
      Tensor* const into[] = {grad(kept->q), grad(kept->k), grad(kept->v)};
      const Tensor& dz = t.grad(kept->z);
      each_run(kept->runs, [&](size_t i) { backward(*kept, kept->runs[i], kept->lse[i], dz, into); });
    });
  }
  return z;
}

}  // namespace fovea::tensor
