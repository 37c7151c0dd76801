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

namespace {

Tensor whole(const Tensor& x, const Norm& by, Next next = Next::kAnything) {
  return by.centred ? layer_norm(x, by.weight, by.bias, by.eps, next) : rms_norm(x, by.weight, by.eps, next);
}

}  // namespace

Tensor norm(const Tensor& x, const Norm& by, Hooks& hook, int layer, Site scale, Site normalized) {
  if (!by.weight.defined()) return x;
  if (!hook.wants(scale, layer) && !hook.wants(normalized, layer)) {
    // Where the result goes into products at once.
    const Next next = scale == Site::kLn1Scale   ? Next::kFineProducts
                      : scale == Site::kLn2Scale ? Next::kProducts
                                                 : Next::kAnything;
    return whole(x, by, next);
  }
  const Tensor in = by.centred ? tensor::center(x) : x;
  const Tensor s = hook(scale, layer, tensor::rms_scale(in, by.eps));
  const Tensor y = tensor::scale_columns(hook(normalized, layer, tensor::rms_normalize(in, s)), by.weight);
  return by.bias.defined() ? add_spread(y, weight_values(by.bias)) : y;
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
    const Tensor from = changed ? matmuls(input.norm.weight.defined() ? whole(own, input.norm) : own,
                                          {{projection.w, projection.bias, fine}})[0]
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

Tensor norm_heads(const Tensor& x, const Weight& weight, float eps) {
  if (!weight.defined()) return x;
  if (weight.cols() == x.dim(2)) return rms_norm(x, weight, eps);
  return split_heads(rms_norm(merge_heads(x), weight, eps), x.dim(1));
}

Tensor project_heads(const Tensor& z, const Linear& o, Hooks& hook, int layer) {
  Tensor attn_out = matmul(merge_heads(z), o.w, o.bias);
  if (!hook.wants(Site::kResult, layer)) return attn_out;
  const int64_t n = z.dim(0), n_heads = z.dim(1), width = z.dim(2);
  std::vector<Tensor> parts;
  for (int64_t head = 0; head < n_heads; ++head) {
    const Tensor own = merge_heads(slice(z, 1, head, head + 1));
    parts.push_back(matmul(pad(own, 1, head * width, (n_heads - 1 - head) * width), o.w));
  }
  Tensor result = reshape(concat(parts, 1), {n, n_heads, o.w.rows()});
  const Tensor before = Tensor::from(result.shape(), result.values());
  const uint64_t given = result.id();
  result = hook(Site::kResult, layer, std::move(result));
  const bool replaced = tensor::current_tape() && result.id() != given;
  if (!replaced && std::ranges::equal(result.values(), before.values())) return attn_out;  // looking changes no bit
  const Tensor summed = sum(result, 1);
  return o.bias.defined() ? add_spread(summed, weight_values(o.bias)) : summed;
}

Tensor add_attn_out(const Tensor& x, const Tensor& z, const Added& out, Hooks& hook, int layer) {
  const bool alone = out.post.weight.defined() || hook.wants(Site::kAttnOut, layer) || hook.wants(Site::kResult, layer);
  if (!alone) return matmul_add(x, merge_heads(z), out.by, out.factor);
  Tensor y = project_heads(z, out.by, hook, layer);
  y = norm(y, out.post, hook, layer, Site::kLn1PostScale, Site::kLn1PostNormalized);
  if (out.factor != 1) y = tensor::affine(y, out.factor);
  return add(x, hook(Site::kAttnOut, layer, std::move(y)));
}

Tensor add_mlp_out(const Tensor& x, const Tensor& h, const Added& out, Hooks& hook, int layer) {
  if (!out.post.weight.defined() && !hook.wants(Site::kMlpOut, layer)) return matmul_add(x, h, out.by, out.factor);
  Tensor y = matmul(h, out.by.w, out.by.bias);
  y = norm(y, out.post, hook, layer, Site::kLn2PostScale, Site::kLn2PostNormalized);
  if (out.factor != 1) y = tensor::affine(y, out.factor);
  return add(x, hook(Site::kMlpOut, layer, std::move(y)));
}

Tensor mlp_hidden(const Tensor& h, const MlpIn& in, Hooks& hook, int layer) {
  const bool has_gate = in.gate.w.defined();
  const Next next = hook.wants(Site::kMlpPost, layer) ? Next::kAnything : Next::kProducts;
  if (!hook.wants(Site::kMlpPre, layer) && !hook.wants(Site::kMlpPreLinear, layer)) {
    return hook(Site::kMlpPost, layer,
                has_gate ? matmul_gated(h, in.gate, in.up, in.act, next) : matmul_activated(h, in.up, in.act, next));
  }
  const Linear& first = has_gate ? in.gate : in.up;
  const Tensor pre = hook(Site::kMlpPre, layer, matmul(h, first.w, first.bias));
  if (!has_gate) return hook(Site::kMlpPost, layer, activate(pre, in.act));
  const Tensor up = hook(Site::kMlpPreLinear, layer, matmul(h, in.up.w, in.up.bias));
  return hook(Site::kMlpPost, layer, gated(pre, up, in.act));
}

Tensor unembed(const Tensor& x, const attention::Batch& batch, const Unembedding& by, Hooks& hook) {
  if (batch.logit_rows.empty()) return {};
  const bool all = static_cast<int64_t>(batch.logit_rows.size()) == batch.size();
  const Tensor rows = all ? x : select_rows(x, batch.logit_rows);
  const Tensor h = norm(rows, by.norm, hook, kNoLayer, Site::kLnFinalScale, Site::kLnFinalNormalized);
  Tensor logits = matmul(hook(Site::kUnembedIn, kNoLayer, h), by.head.w, by.head.bias);
  if (by.scale != 1) logits = tensor::affine(logits, by.scale);
  if (by.softcap > 0) logits = tensor::affine(tensor::tanh(tensor::affine(logits, 1 / by.softcap)), by.softcap);
  return hook(Site::kLogits, kNoLayer, std::move(logits));
}

}  // namespace fovea::models
