#include "fovea/tensor/ops/attention/attention_parts.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <utility>

#include "fovea/base/check.h"
#include "fovea/base/threads.h"
#include "fovea/kernels/attention_backward.h"
#include "fovea/tensor/ops/attention/per_thread.h"
#include "fovea/tensor/tape.h"

namespace fovea::tensor {
namespace {

using kernels::KeyBlock;

struct KeptParts {
  AttentionPlan plan;
  std::vector<int32_t> positions;
  std::vector<Tensor> q;
  Tensor k, v, z;
  std::vector<std::vector<float>> lse;  // of each read, [n, n_heads], without its bias
  Tensor d_lse;                         // of the pass that runs backward

  int64_t n() const { return z.dim(1); }
  int64_t n_heads() const { return z.dim(2); }
  int group() const { return static_cast<int>(n_heads() / k.dim(1)); }
  int k_dim() const { return static_cast<int>(k.dim(2)); }
  int v_dim() const { return static_cast<int>(v.dim(2)); }
  int64_t q_at(const AttentionRead& r) const { return (r.first * n_heads() + r.kv_head * group() + r.head) * k_dim(); }
  int64_t z_at(const AttentionRead& r) const {
    return ((r.part * n() + r.first) * n_heads() + r.kv_head * group() + r.head) * v_dim();
  }
  int64_t lse_at(const AttentionRead& r, int64_t row, int h) const {
    return ((r.first + row) * n_heads() + r.kv_head * group() + r.head + h) * plan.n_parts + r.part;
  }
};

kernels::AttentionArgs args_of(const KeptParts& kept, const AttentionRead& read) {
  kernels::AttentionArgs args;
  args.k_type = args.v_type = kernels::KvType::kF32;
  args.k_dim = kept.k_dim(), args.v_dim = kept.v_dim(), args.group = read.n_heads;
  args.scale = kept.plan.scale, args.softcap = kept.plan.softcap;
  args.n_queries = read.n, args.n_blocks = static_cast<int64_t>(read.pages.size());
  args.ld_q = kept.n_heads() * args.k_dim, args.ld_z = kept.n_heads() * args.v_dim;
  return args;
}

void forward(KeptParts& kept, const FloatPages& pages, Tensor& lse) {
  const std::vector<AttentionRead>& reads = kept.plan.reads;
  size_t most = 0;
  for (const AttentionRead& read : reads) most = std::max(most, kernels::attention_scratch_bytes(args_of(kept, read)));
  PerThread scratch(most);
  pool().for_each(static_cast<int64_t>(reads.size()), [&](int64_t i, int thread) {
    const AttentionRead& read = reads[static_cast<size_t>(i)];
    const std::span<const KeyBlock> all = pages.of(read.kv_head);
    std::vector<KeyBlock> blocks;
    std::vector<const uint32_t*> masks;
    for (size_t p = 0; p < read.pages.size(); ++p) {
      blocks.push_back(all[static_cast<size_t>(read.pages[p])]);
      if (!read.mask.empty()) masks.push_back(read.mask.data() + p * static_cast<size_t>(read.n_heads * read.n));
    }
    std::vector<float>& sums = kept.lse[static_cast<size_t>(i)];
    sums.resize(static_cast<size_t>(read.n * read.n_heads));
    kernels::AttentionArgs args = args_of(kept, read);
    args.q = kept.q[static_cast<size_t>(read.turn)].data() + kept.q_at(read);
    args.q_pos = kept.plan.q_positions.data() + read.first;
    args.blocks = blocks.data(), args.masks = masks.empty() ? nullptr : masks.data();
    args.head_rules = read.rules.data();
    args.z = kept.z.data() + kept.z_at(read), args.lse = sums.data(), args.scratch = scratch.at(thread);
    kernels::attention(args);
    for (int64_t row = 0; row < read.n; ++row) {
      for (int h = 0; h < read.n_heads; ++h)
        lse.data()[kept.lse_at(read, row, h)] = sums[static_cast<size_t>(row * read.n_heads + h)] + read.bias;
    }
  });
}

// All reads of one KV head, one after the other: they share its keys.
void backward(Tape& t, const KeptParts& kept, const Tensor& dz, int64_t kv_head, void* scratch) {
  for (size_t i = 0; i < kept.plan.reads.size(); ++i) {
    const AttentionRead& read = kept.plan.reads[i];
    if (read.kv_head != kv_head) continue;
    const auto n_pages = read.pages.size(), n = static_cast<size_t>(read.n), heads = static_cast<size_t>(read.n_heads);
    kernels::AttentionBackwardArgs args{.k_dim = kept.k_dim(), .v_dim = kept.v_dim(), .group = read.n_heads};
    args.scale = kept.plan.scale, args.softcap = kept.plan.softcap;
    args.n_queries = read.n, args.n_keys = kept.k.dim(0);
    args.ld_q = kept.n_heads() * args.k_dim, args.ld_z = args.ld_dz = kept.n_heads() * args.v_dim;
    args.ld_k = kept.k.dim(1) * args.k_dim, args.ld_v = kept.v.dim(1) * args.v_dim;
    const Tensor& q = kept.q[static_cast<size_t>(read.turn)];
    args.q = q.data() + kept.q_at(read), args.q_pos = kept.plan.q_positions.data() + read.first;
    args.k = kept.k.data() + kv_head * args.k_dim, args.v = kept.v.data() + kv_head * args.v_dim;
    args.k_pos = kept.positions.data();
    args.pages = read.pages.data(), args.n_pages = static_cast<int64_t>(n_pages);
    args.head_rules = read.rules.data();
    std::vector<uint32_t> mask;
    if (!read.mask.empty()) {  // [pages, heads, n] -> [n, heads, pages]
      mask.resize(read.mask.size());
      for (size_t p = 0; p < n_pages; ++p) {
        for (size_t h = 0; h < heads; ++h) {
          for (size_t row = 0; row < n; ++row)
            mask[(row * heads + h) * n_pages + p] = read.mask[(p * heads + h) * n + row];
        }
      }
      args.mask = mask.data();
    }
    args.z = kept.z.data() + kept.z_at(read), args.dz = dz.data() + kept.z_at(read);
    args.lse = kept.lse[i].data();
    std::vector<float> d_lse;
    for (int64_t row = 0; kept.d_lse.defined() && row < read.n; ++row) {
      for (int h = 0; h < read.n_heads; ++h) d_lse.push_back(kept.d_lse.data()[kept.lse_at(read, row, h)]);
    }
    if (!d_lse.empty()) args.dlse = d_lse.data();
    if (t.needs_grad(q)) args.dq = t.grad(q).data() + kept.q_at(read);
    if (t.needs_grad(kept.k)) args.dk = t.grad(kept.k).data() + kv_head * args.k_dim;
    if (t.needs_grad(kept.v)) args.dv = t.grad(kept.v).data() + kv_head * args.v_dim;
    args.scratch = scratch;
    kernels::attention_backward(args);
  }
}

}  // namespace

FloatPages float_pages(const Tensor& k, const Tensor& v, std::span<const int32_t> positions) {
  const auto rows = [](const Tensor& x) {
    return FloatPages::Rows{x.data(), x.dim(1) * x.dim(2), static_cast<int>(x.dim(2))};
  };
  return {k.dim(1), rows(k), rows(v), positions};
}

AttentionParts attention_parts(std::span<const Tensor> q, const Tensor& k, const Tensor& v,
                               std::span<const int32_t> positions, const FloatPages& pages, AttentionPlan plan) {
  FOVEA_CHECK(!q.empty() && k.shape().rank() == 3 && v.shape().rank() == 3 && k.dim(0) == v.dim(0) &&
                  k.dim(1) == v.dim(1) && static_cast<int64_t>(positions.size()) == k.dim(0) && k.dim(2) % 8 == 0 &&
                  v.dim(2) % 8 == 0 && k.dim(2) <= 256 && v.dim(2) <= 256,
              "attention_parts: k {} and v {} with {} positions do not fit", k.shape().to_string(),
              v.shape().to_string(), positions.size());
  for (const Tensor& turned : q) {
    FOVEA_CHECK(turned.shape().rank() == 3 && turned.dim(2) == k.dim(2) && turned.dim(1) % k.dim(1) == 0 &&
                    turned.dim(0) == static_cast<int64_t>(plan.q_positions.size()) && turned.shape() == q[0].shape(),
                "attention_parts: q {} does not fit k {} and {} positions", turned.shape().to_string(),
                k.shape().to_string(), plan.q_positions.size());
  }
  const int64_t n = q[0].dim(0), n_heads = q[0].dim(1);
  auto kept = std::make_shared<KeptParts>();
  kept->plan = std::move(plan);
  kept->positions.assign(positions.begin(), positions.end());
  kept->q.assign(q.begin(), q.end());
  kept->k = k, kept->v = v;
  kept->lse.resize(kept->plan.reads.size());
  AttentionParts out;
  out.z = kept->z = Tensor::zeros({kept->plan.n_parts, n, n_heads, v.dim(2)});
  out.lse = Tensor::empty({n, n_heads, kept->plan.n_parts});
  std::fill_n(out.lse.data(), out.lse.elements(), -std::numeric_limits<float>::infinity());
  forward(*kept, pages, out.lse);
  Tape* tape = current_tape();
  if (!tape) return out;
  std::vector<Tensor> inputs(q.begin(), q.end());
  inputs.push_back(k), inputs.push_back(v);
  tape->record(out.z, inputs,
               [kept, scratch_bytes = kernels::attention_backward_scratch_bytes(static_cast<int>(k.dim(2)),
                                                                                static_cast<int>(v.dim(2)))](Tape& t) {
                 const Tensor dz = t.grad(kept->z);
                 for (const Tensor& turned : kept->q)
                   (void)(t.needs_grad(turned) && t.grad(turned).defined());  // not in a thread
                 for (const Tensor* x : {&kept->k, &kept->v}) (void)(t.needs_grad(*x) && t.grad(*x).defined());
                 PerThread scratch(scratch_bytes);
                 pool().for_each(kept->k.dim(1), [&](int64_t kv_head, int thread) {
                   backward(t, *kept, dz, kv_head, scratch.at(thread));
                 });
                 kept->d_lse = Tensor();
               });
  // Runs before that of z, which takes both gradients in one go.
  tape->record(out.lse, inputs, [kept, lse = ValueId(out.lse)](Tape& t) {
    kept->d_lse = t.grad(lse);
    (void)t.grad(kept->z);
  });
  return out;
}

}  // namespace fovea::tensor
