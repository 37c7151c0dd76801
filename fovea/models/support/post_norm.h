// Encoders whose norms stand behind attention and MLP, over the sum with the residual stream (BERT): the tables of a
// Decoder, another block. Every token sees every other, and what comes out is a vector a token.
#pragma once

#include "fovea/models/support/decoder.h"

namespace fovea::models {

// attn_norm and mlp_norm of the table are those behind attention and MLP; no norm follows the last block.
class PostNormEncoder : public Decoder {
 public:
  // blocks.N.hook_normalized_resid_post [n, d_model]: what the next block reads.
  static constexpr attention::Site kNormalizedPost = attention::own_site(0);

  PostNormEncoder(const Config& config, DecoderStyle style);
  attention::HookMap hooks() const override;
  tensor::Tensor block(int l, tensor::Tensor x, attention::Attend& attend, attention::Hooks& hook) const override;
  tensor::Tensor final_norm(const tensor::Tensor& x, attention::Hooks& /*hook*/) const override { return x; }
};

// token_embd, the norm of the sum of embeddings and the table of segments, by their names in folders.
struct EncoderEnds {
  const char *tokens, *norm, *types;  // "bert.embeddings.LayerNorm.": a stem
};
std::vector<EndRow> encoder_ends(const EncoderEnds& hf, std::initializer_list<EndRow> more = {});
// Config::n_token_types, of a folder or of a GGUF file; both directions.
Status read_encoder(const Keys& keys, Config& config);

}  // namespace fovea::models
