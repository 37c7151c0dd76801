// Pieces that decoders share, with their hooks.
#pragma once

#include <array>

#include "fovea/attention/batch.h"
#include "fovea/attention/hooks.h"
#include "fovea/tensor/ops/product/matmul.h"
#include "fovea/tensor/tensor.h"
#include "fovea/tensor/weight.h"

namespace fovea::models {

using tensor::Activation;
using tensor::Linear;

inline const tensor::Weight kNoWeight;

// x / sqrt(mean(x^2) + eps) * weight + bias, where `centred` of x less its mean (a layer norm). Without a weight there
// is no norm.
struct Norm {
  const tensor::Weight& weight;
  float eps = 0;
  const tensor::Weight& bias = kNoWeight;
  bool centred = false;
};
// In one pass unless a hook looks at its parts: the divisor, and what is divided before weight and bias.
tensor::Tensor norm(const tensor::Tensor& x, const Norm& by, attention::Hooks& hook, int layer, attention::Site scale,
                    attention::Site normalized);

// x for a branch of the block (hook_attn_in, hook_mlp_in): a hook may change it, the residual stream
// stays what it was.
tensor::Tensor branch(const tensor::Tensor& x, attention::Hooks& hook, attention::Site site, int layer);

// What the projections of an attention block read: in, and h = norm(in).
struct AttentionInput {
  const tensor::Tensor& in;
  const tensor::Tensor& h;
  Norm norm;
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

// The rms norm of q or k: of every head [n, n_heads, head_dim] with one weight for all, or of all heads of a token with
// a weight for each element. No weight: as it is.
tensor::Tensor norm_heads(const tensor::Tensor& x, const tensor::Weight& weight, float eps);

// z [n, n_heads, head_dim] -> attn_out [n, d_model]. With a hook on hook_result, every head's part (without the bias)
// is made on its own too; attn_out is their sum only if the hook changed them.
tensor::Tensor project_heads(const tensor::Tensor& z, const Linear& o, attention::Hooks& hook, int layer);

// How a block's output is added to the residual stream: x + hook(factor * post(y by)).
struct Added {
  Linear by;
  Norm post{kNoWeight};
  float factor = 1;
};
// For attention and for the MLP: in one pass unless a norm or a hook looks at what is added.
tensor::Tensor add_attn_out(const tensor::Tensor& x, const tensor::Tensor& z, const Added& out, attention::Hooks& hook,
                            int layer);
tensor::Tensor add_mlp_out(const tensor::Tensor& x, const tensor::Tensor& h, const Added& out, attention::Hooks& hook,
                           int layer);

// act(h gate) * (h up) -> [n, d_ff], or act(h up) where the gate has no weight, with the hooks of its parts.
struct MlpIn {
  Linear gate, up;
  Activation act = Activation::kSilu;
};
tensor::Tensor mlp_hidden(const tensor::Tensor& h, const MlpIn& in, attention::Hooks& hook, int layer);

// The final norm and the vocabulary, for the rows whose logits are wanted. softcap > 0: c tanh(logit / c).
struct Unembedding {
  Norm norm;
  Linear head;
  float scale = 1;  // multiplies the logits
  float softcap = 0;
};
tensor::Tensor unembed(const tensor::Tensor& x, const attention::Batch& batch, const Unembedding& by,
                       attention::Hooks& hook);

}  // namespace fovea::models
