// Pre-norm decoders (Llama and its kin): rms norm, attention, rms norm, gated MLP. Their table of weights and their
// chain stand here once; what a family has besides or otherwise is data.
#pragma once

#include <array>
#include <initializer_list>
#include <string_view>
#include <vector>

#include "fovea/models/family.h"
#include "fovea/tensor/weight.h"

namespace fovea::models {

// The weights of a block. One that no row of the table names stays undefined, and its step is left out.
struct DecoderBlock {
  tensor::Weight attn_norm, w_q, w_k, w_v, w_o, mlp_norm, w_gate, w_up, w_down;
  tensor::Weight b_q, b_k, b_v;
  tensor::Weight q_norm, k_norm;                 // of every head, before it is turned
  tensor::Weight attn_post_norm, mlp_post_norm;  // of what is added to the residual stream
};

struct DecoderRow {
  // Of the residual stream; heads times width of q, k, v and z; of a head's q and k.
  enum class Width { kNone, kModel, kQ, kK, kV, kZ, kMlp, kHead };
  std::string_view name, hf_name;  // in a block: "attn_q.weight" of "blk.3.attn_q.weight"
  std::array<Width, 2> shape;
  tensor::Weight DecoderBlock::*target;
  tensor::Init init = tensor::Init::normal(0.02f);
};
// Those of a plain decoder, and `more`; one of `more` with the target of another takes its place.
std::vector<DecoderRow> decoder_rows(std::initializer_list<DecoderRow> more = {});

struct DecoderStyle {
  std::vector<DecoderRow> rows = decoder_rows();
  tensor::Tensor (*activation)(const tensor::Tensor&) = nullptr;  // of the gate; null: silu, within its product
  float embed_scale = 1;                                          // multiplies the embeddings
  float logit_softcap = 0;                                        // > 0: a logit s becomes softcap tanh(s / softcap)
  float hf_norm_plus = 0;  // Hugging Face's files hold the weights of norms less this; GGUF's hold them whole
};

class Decoder : public Family {
 public:
  explicit Decoder(const Config& config, DecoderStyle style = {});

  const Config& config() const override { return cfg_; }
  std::vector<tensor::Parameter> weights() override;
  attention::HookMap hooks() const override;
  tensor::Tensor embed(const attention::Batch& batch, attention::Hooks& hook) const override;
  tensor::Tensor block(int l, tensor::Tensor x, attention::Attend& attend, attention::Hooks& hook) const override;
  tensor::Tensor unembed(const tensor::Tensor& x, const attention::Batch& batch, attention::Hooks& hook) const override;

 private:
  Config cfg_;
  DecoderStyle style_;
  tensor::Weight embed_, final_norm_, lm_head_;
  std::vector<DecoderBlock> blocks_;
};

}  // namespace fovea::models
