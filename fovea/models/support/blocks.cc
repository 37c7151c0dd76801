#include "fovea/models/support/blocks.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "fovea/tensor/ops/ops.h"
#include "fovea/tensor/tape.h"

namespace fovea::models {

using attention::Hooks;
using attention::kNoLayer;
using attention::Site;
using tensor::Next;
using tensor::Tensor;
using tensor::Weight;

Tensor norm(const Tensor& x, const Weight& weight, float eps, Hooks& hook, int layer, Site scale, Site normalized) {
  if (!hook.wants(scale, layer) && !hook.wants(normalized, layer)) {
    // Where the result goes into products at once.
    const Next next = scale == Site::kLn1Scale   ? Next::kFineProducts
                      : scale == Site::kLn2Scale ? Next::kProducts
                                                 : Next::kAnything;
    return rms_norm(x, weight, eps, next);
  }
  const Tensor s = hook(scale, layer, tensor::rms_scale(x, eps));
  return tensor::scale_columns(hook(normalized, layer, tensor::rms_normalize(x, s)), weight);
}

Tensor branch(const Tensor& x, Hooks& hook, Site site, int layer) {
  if (!hook.wants(site, layer)) return x;
  // Edited in place, x must not move; on the tape nothing is, and a copy would have no gradient.
  return hook(site, layer, tensor::current_tape() ? x : Tensor::from(x.shape(), x.values()));
}

namespace {

// Projects the heads whose copy of the input a hook changed again, from that copy.
Tensor project_changed_heads(const AttentionInput& input, const Projection& projection, bool fine, const Tensor& out) {
  const int64_t n = input.in.dim(0), d_model = input.in.dim(1), n_heads = projection.n_heads;
  const int64_t width = out.dim(1) / n_heads;
  Tensor copies = reshape(repeat(input.in, 1, n_heads), {n, n_heads, d_model});
  const uint64_t given = copies.id();
  copies = input.hook(projection.site, input.layer, std::move(copies));
  const bool replaced = tensor::current_tape() && copies.id() != given;
  std::vector<Tensor> heads;
  bool any = false;
  for (int64_t head = 0; head < n_heads; ++head) {
    const Tensor own = reshape(slice(copies, 1, head, head + 1), {n, d_model});
    const bool changed = replaced || !std::ranges::equal(own.values(), input.in.values());
    any = any || changed;
    const Tensor from =
        changed ? matmuls(rms_norm(own, input.norm_weight, input.eps), {{projection.w, projection.bias, fine}})[0]
                : out;
    heads.push_back(slice(from, 1, head * width, (head + 1) * width));
  }
  return any ? concat(heads, 1) : out;
}

}  // namespace

std::array<Tensor, 3> project_inputs(const AttentionInput& input, const Projection (&projections)[3]) {
  const auto& [q, k, v] = projections;
  // Few rows of weights, which every later token reads: 16 bits of h for keys and values take a quarter off the mean
  // KL of `fast` on Qwen2.5-Coder-0.5B (docs/speed.md).
  constexpr bool kFine[3] = {false, true, true};
  std::array<Tensor, 3> out =
      matmuls(input.h, {{q.w, q.bias, kFine[0]}, {k.w, k.bias, kFine[1]}, {v.w, v.bias, kFine[2]}});
  for (size_t i = 0; i < 3; ++i) {
    if (input.hook.wants(projections[i].site, input.layer))
      out[i] = project_changed_heads(input, projections[i], kFine[i], out[i]);
    out[i] = split_heads(out[i], projections[i].n_heads);
  }
  return out;
}

Tensor project_heads(const Tensor& z, const Weight& w_o, Hooks& hook, int layer) {
  Tensor attn_out = matmul(merge_heads(z), w_o);
  if (!hook.wants(Site::kResult, layer)) return attn_out;
  const int64_t n = z.dim(0), n_heads = z.dim(1), width = z.dim(2);
  std::vector<Tensor> parts;
  for (int64_t head = 0; head < n_heads; ++head) {
    const Tensor own = merge_heads(slice(z, 1, head, head + 1));
    parts.push_back(matmul(pad(own, 1, head * width, (n_heads - 1 - head) * width), w_o));
  }
  Tensor result = reshape(concat(parts, 1), {n, n_heads, w_o.rows()});
  const Tensor before = Tensor::from(result.shape(), result.values());
  const uint64_t given = result.id();
  result = hook(Site::kResult, layer, std::move(result));
  const bool replaced = tensor::current_tape() && result.id() != given;
  if (!replaced && std::ranges::equal(result.values(), before.values())) return attn_out;  // looking changes no bit
  return sum(result, 1);
}

Tensor add_attn_out(const Tensor& x, const Tensor& z, const Weight& w_o, const PostNorm& post, Hooks& hook, int layer) {
  const bool alone = post.weight.defined() || hook.wants(Site::kAttnOut, layer) || hook.wants(Site::kResult, layer);
  if (!alone) return matmul_add(x, merge_heads(z), w_o);
  Tensor out = project_heads(z, w_o, hook, layer);
  if (post.weight.defined())
    out = norm(out, post.weight, post.eps, hook, layer, Site::kLn1PostScale, Site::kLn1PostNormalized);
  return add(x, hook(Site::kAttnOut, layer, std::move(out)));
}

Tensor add_mlp_out(const Tensor& x, const Tensor& h, const Weight& w_down, const PostNorm& post, Hooks& hook,
                   int layer) {
  if (!post.weight.defined() && !hook.wants(Site::kMlpOut, layer)) return matmul_add(x, h, w_down);
  Tensor out = matmul(h, w_down);
  if (post.weight.defined())
    out = norm(out, post.weight, post.eps, hook, layer, Site::kLn2PostScale, Site::kLn2PostNormalized);
  return add(x, hook(Site::kMlpOut, layer, std::move(out)));
}

Tensor gated(const Tensor& h, const Weight& w_gate, const Weight& w_up, Tensor (*act)(const Tensor&), Hooks& hook,
             int layer) {
  if (!act && !hook.wants(Site::kMlpPre, layer) && !hook.wants(Site::kMlpPreLinear, layer))
    return hook(Site::kMlpPost, layer,
                matmul_swiglu(h, w_gate, w_up, hook.wants(Site::kMlpPost, layer) ? Next::kAnything : Next::kProducts));
  const Tensor gate = hook(Site::kMlpPre, layer, matmul(h, w_gate));
  const Tensor up = hook(Site::kMlpPreLinear, layer, matmul(h, w_up));
  return hook(Site::kMlpPost, layer, act ? mul(act(gate), up) : swiglu(gate, up));
}

Tensor unembed(const Tensor& x, const attention::Batch& batch, const Weight& final_norm, float eps,
               const Weight& lm_head, float softcap, Hooks& hook) {
  if (batch.logit_rows.empty()) return {};
  const bool all = static_cast<int64_t>(batch.logit_rows.size()) == batch.size();
  const Tensor rows = all ? x : select_rows(x, batch.logit_rows);
  const Tensor h = norm(rows, final_norm, eps, hook, kNoLayer, Site::kLnFinalScale, Site::kLnFinalNormalized);
  Tensor logits = matmul(hook(Site::kUnembedIn, kNoLayer, h), lm_head);
  if (softcap > 0) logits = tensor::affine(tensor::tanh(tensor::affine(logits, 1 / softcap)), softcap);
  return hook(Site::kLogits, kNoLayer, std::move(logits));
}

}  // namespace fovea::models
