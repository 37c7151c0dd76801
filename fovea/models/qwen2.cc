// Qwen2, Qwen2.5 and its coders: Llama with biases on q, k and v. Yang et al., arXiv:2407.10671.
#include "fovea/models/support/decoder.h"

namespace fovea::models {
namespace {

class Qwen2 final : public Decoder {
 public:
  explicit Qwen2(const Config& config)
      : Decoder(
            config,
            {.rows = decoder_rows(
                 {{"attn_q.bias", "self_attn.q_proj.bias", {Width::kQ}, &DecoderBlock::b_q, tensor::Init::zeros()},
                  {"attn_k.bias", "self_attn.k_proj.bias", {Width::kK}, &DecoderBlock::b_k, tensor::Init::zeros()},
                  {"attn_v.bias", "self_attn.v_proj.bias", {Width::kV}, &DecoderBlock::b_v, tensor::Init::zeros()}})}) {
  }

 private:
  using Width = DecoderRow::Width;
};
FOVEA_REGISTER_FAMILY(Qwen2, "qwen2", decoder_keys());

}  // namespace
}  // namespace fovea::models
