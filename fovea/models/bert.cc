// BERT: norms behind attention and MLP, learned positions, segments, gelu, biases everywhere; the pooler is not read.
// Devlin et al., arXiv:1810.04805.
#include "fovea/models/support/layers.h"
#include "fovea/models/support/post_norm.h"

namespace fovea::models {
namespace {

class Bert final : public PostNormEncoder {
 public:
  static constexpr FamilyTraits kTraits{.models = "BERT, MiniLM, BGE, E5 and others of their form: vectors",
                                        .limits = "relative positions; segments but the first; heads of other tasks",
                                        .activation = tensor::Activation::kGelu};
  explicit Bert(const Config& config)
      : PostNormEncoder(config, {.rows = rows(), .ends = ends(), .hf_block = "bert.encoder.layer."}) {}
  static Status configure(const Keys& keys, Config& config) {
    use_learned_positions(config);
    return read_encoder(keys, config);
  }

 private:
  using B = DecoderBlock;
  using enum Width;
  static std::vector<DecoderRow> rows() {
    const tensor::Init ones = tensor::Init::ones();
    return with_all_biases(
        decoder_rows({{"attn_q.weight", "attention.self.query.weight", {kModel, kQ}, &B::w_q},
                      {"attn_k.weight", "attention.self.key.weight", {kModel, kK}, &B::w_k},
                      {"attn_v.weight", "attention.self.value.weight", {kModel, kV}, &B::w_v},
                      {"attn_output.weight", "attention.output.dense.weight", {kZ, kModel}, &B::w_o},
                      {"attn_output_norm.weight", "attention.output.LayerNorm.weight", {kModel}, &B::attn_norm, ones},
                      {"", "", {}, &B::w_gate},
                      {"ffn_up.weight", "intermediate.dense.weight", {kModel, kMlp}, &B::w_up},
                      {"ffn_down.weight", "output.dense.weight", {kMlp, kModel}, &B::w_down},
                      {"layer_output_norm.weight", "output.LayerNorm.weight", {kModel}, &B::mlp_norm, ones}}));
  }
  static std::vector<EndRow> ends() {
    return encoder_ends({"bert.embeddings.word_embeddings.weight", "bert.embeddings.LayerNorm.",
                         "bert.embeddings.token_type_embeddings.weight"},
                        {{"position_embd.weight",
                          "bert.embeddings.position_embeddings.weight",
                          {kModel, kPositions},
                          &DecoderEnds::pos_embed}});
  }
};
FOVEA_REGISTER_FAMILY(Bert, "bert", without_rope(encoder_keys({{"type_vocab_size"}, {"hidden_act"}})));

}  // namespace
}  // namespace fovea::models
