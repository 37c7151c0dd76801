// Pieces that pre-norm decoders share, with their hooks.
#pragma once

#include <array>

#include "fovea/attention/batch.h"
#include "fovea/attention/hooks.h"
#include "fovea/tensor/tensor.h"
#include "fovea/tensor/weight.h"

namespace fovea::models {

// rms_norm, in one pass unless a hook looks at its parts.
tensor::Tensor norm(const tensor::Tensor& x, const tensor::Weight& weight, float eps, attention::Hooks& hook, int layer,
                    attention::Site scale, attention::Site normalized);

// x for a branch of the block (hook_attn_in, hook_mlp_in): a hook may change it, the residual stream
// stays what it was.
tensor::Tensor branch(const tensor::Tensor& x, attention::Hooks& hook, attention::Site site, int layer);

// What the projections of an attention block read: in, and h = norm(in).
struct AttentionInput {
  const tensor::Tensor& in;
  const tensor::Tensor& h;
  const tensor::Weight& norm_weight;
  float eps;
  attention::Hooks& hook;
  int layer;
};
struct Projection {
  attention::Site site;
  const tensor::Weight& w;
  const tensor::Weight& bias;
  int64_t n_heads;
};
// q, k and v: h w (+ bias) -> [n, n_heads, head_dim]. With a hook on `site` (hook_q_input and its kin), every
// head has a copy of `in` [n, n_heads, d_model]; a head whose copy was changed is projected from it, the
// others keep their bits. On the tape all heads are, once another tensor was put there: gradients go through it.
std::array<tensor::Tensor, 3> project_inputs(const AttentionInput& input, const Projection (&projections)[3]);

// z [n, n_heads, head_dim] -> attn_out [n, d_model]. With a hook on hook_result, every head's part is
// made on its own too; attn_out is their sum only if the hook changed them.
tensor::Tensor project_heads(const tensor::Tensor& z, const tensor::Weight& w_o, attention::Hooks& hook, int layer);

// What normalises the output of attention or of the MLP before it is added; an undefined weight: nothing does.
struct PostNorm {
  const tensor::Weight& weight;
  float eps = 0;
};
// x + hook(attn_out), and x + hook(h w_down) for the MLP: in one pass unless a norm or a hook looks at what is added.
tensor::Tensor add_attn_out(const tensor::Tensor& x, const tensor::Tensor& z, const tensor::Weight& w_o,
                            const PostNorm& post, attention::Hooks& hook, int layer);
tensor::Tensor add_mlp_out(const tensor::Tensor& x, const tensor::Tensor& h, const tensor::Weight& w_down,
                           const PostNorm& post, attention::Hooks& hook, int layer);

// act(h w_gate) * (h w_up) -> [n, d_ff], with the hooks of its parts; act null: silu, in one pass.
tensor::Tensor gated(const tensor::Tensor& h, const tensor::Weight& w_gate, const tensor::Weight& w_up,
                     tensor::Tensor (*act)(const tensor::Tensor&), attention::Hooks& hook, int layer);

// The final norm and the vocabulary, for the rows whose logits are wanted. softcap > 0: c tanh(logit / c).
tensor::Tensor unembed(const tensor::Tensor& x, const attention::Batch& batch, const tensor::Weight& final_norm,
                       float eps, const tensor::Weight& lm_head, float softcap, attention::Hooks& hook);

}  // namespace fovea::models
