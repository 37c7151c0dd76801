// Decoders: a norm, attention, a norm, an MLP, each added to the residual stream. Their tables of weights and their
// chain stand here once; what a family has besides or otherwise is data.
#pragma once

#include <array>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "fovea/models/family.h"
#include "fovea/models/support/blocks.h"
#include "fovea/tensor/ops/product/experts.h"
#include "fovea/tensor/weight.h"

namespace fovea::models {

// The weights of a block. One that no row of the table names stays undefined, and its step is left out.
struct DecoderBlock {
  tensor::Weight attn_norm, w_q, w_k, w_v, w_o, mlp_norm, w_gate, w_up, w_down;
  tensor::Weight b_attn_norm, b_q, b_k, b_v, b_o, b_mlp_norm, b_gate, b_up, b_down;
  tensor::Weight q_norm, k_norm;                 // of every head, or of all heads at once (kQ, kK), before it is turned
  tensor::Weight attn_post_norm, mlp_post_norm;  // of what is added to the residual stream
  tensor::Weight sinks;                          // a logit for each head: AttendInput
  // In place of gate, up and down in layers with experts: what chooses them, the one of all tokens and its gate.
  tensor::Weight w_router, b_router, w_shared_gate, w_shared_up, w_shared_down, w_shared_router;
  std::vector<tensor::Expert> experts;
};
// Those around the blocks.
struct DecoderEnds {
  tensor::Weight embed, pos_embed, type_embed, final_norm, b_final_norm, lm_head, b_lm_head;
  tensor::Weight embed_norm, b_embed_norm;  // of the sum of embeddings
  tensor::Weight distance_bias;             // [n_heads] of each bucket of distances
};

// Of the residual stream; heads times width of q, k, v and z; the MLP; a head's q and k; tokens; rows of positions, of
// segments; the number of query heads and of experts; the MLP of an expert, and of the one of all tokens; buckets of
// distances.
enum class Width {
  kNone,
  kModel,
  kQ,
  kK,
  kV,
  kZ,
  kMlp,
  kHead,
  kVocab,
  kPositions,
  kTypes,
  kHeads,
  kExperts,
  kExpertMlp,
  kSharedMlp,
  kBuckets
};

// How a file's tensor holds the rows of one weight.
struct Held {
  enum class Part {
    kWhole,
    kQ,  // of all queries, then all keys, then all values
    kK,
    kV,
    kHeadQ,  // of q, k and v of head after head
    kHeadK,
    kHeadV,
    kGate,  // of the gate, then up
    kUp,
    kEvenRows,  // of the gate and up in turn
    kOddRows,
  } part = Part::kWhole;
  bool transposed = false;
  bool one_row = false;  // Stored::one_row
};

template <typename Weights>
struct WeightRow {
  std::string name, hf_name;  // in a block: "attn_q.weight" of "blk.3.attn_q.weight"
  std::array<Width, 2> shape;
  tensor::Weight Weights::*target;
  tensor::Init init = tensor::Init::normal(0.02f);
  bool optional = false;
  Held gguf = {}, hf = {};
  std::string hf_packed_name = {};  // Parameter::hf_packed_name
  Held hf_packed = {};
};
using DecoderRow = WeightRow<DecoderBlock>;
using EndRow = WeightRow<DecoderEnds>;
// Of each expert: a star in a name stands for its number; without one the tensor holds those of all, one after the
// other.
using ExpertRow = WeightRow<tensor::Expert>;
// Those of a plain decoder, and `more`; one of `more` with the target of another takes its place, and one without a
// name takes it away. An absent lm_head is tied to embed.
std::vector<DecoderRow> decoder_rows(std::initializer_list<DecoderRow> more = {});
std::vector<EndRow> decoder_ends(std::initializer_list<EndRow> more = {});
// `rows`, and for each pair a row of the bias beside that of the weight ("x.weight" -> "x.bias", in both kinds of
// file).
struct BiasOf {
  tensor::Weight DecoderBlock::*weight, DecoderBlock::*bias;
};
std::vector<DecoderRow> with_biases(std::vector<DecoderRow> rows, std::initializer_list<BiasOf> biases,
                                    bool optional = false);

std::vector<DecoderRow> with_all_biases(std::vector<DecoderRow> rows);  // of norms and matrices: all that it has
// Biases of q, k, v and the output of attention, of the MLP: where the file has them.
std::vector<DecoderRow> with_attention_biases(std::vector<DecoderRow> rows);
std::vector<DecoderRow> with_mlp_biases(std::vector<DecoderRow> rows);
std::vector<DecoderRow> with_head_norms(std::vector<DecoderRow> rows);  // of q and k, one weight for all heads

struct DecoderStyle {
  std::vector<DecoderRow> rows = decoder_rows();
  std::vector<DecoderRow> router_rows = {};  // of layers with experts, in place of the MLP's of `rows`
  std::vector<ExpertRow> expert_rows = {};
  std::vector<EndRow> ends = decoder_ends();
  std::string_view gguf_block = "blk.", hf_block = "model.layers.";  // before the number of a block
  bool layer_norm = false;                                           // norms are centred
  bool first_norm = true;                                            // false: attention of block 0 reads x as it is
  bool makes_text = true;                                            // false: no unembedding
  float hf_norm_plus = 0;  // Hugging Face's files hold the weights of norms less this; GGUF's hold them whole
};

// What keys say of the chain besides its shape is Config::decoder.
class Decoder : public Family {
 public:
  explicit Decoder(const Config& config, DecoderStyle style = {});

  const Config& config() const override { return cfg_; }
  std::vector<tensor::Parameter> weights() override;
  attention::HookMap hooks() const override;
  tensor::Tensor embed(const attention::Batch& batch, attention::Hooks& hook) const override;
  tensor::Tensor block(int l, tensor::Tensor x, attention::Attend& attend, attention::Hooks& hook) const override;
  tensor::Tensor unembed(const tensor::Tensor& x, const attention::Batch& batch, attention::Hooks& hook) const override;
  tensor::Tensor final_norm(const tensor::Tensor& x, attention::Hooks& hook) const override;
  bool makes_text() const override { return style_.makes_text; }

 protected:
  tensor::Tensor add_mlp(int l, const tensor::Tensor& x, const tensor::Tensor& h, attention::Hooks& hook) const;
  Norm norm_of(const tensor::Weight& weight, const tensor::Weight& bias) const {
    return {weight, cfg_.norm_eps, bias, style_.layer_norm};
  }
  // AttendInput::by_distance of every block; undefined: there is none.
  virtual tensor::Tensor bias_by_distance() const { return {}; }
  const DecoderEnds& ends() const { return ends_; }
  const DecoderBlock& weights_of(int block) const { return blocks_[static_cast<size_t>(block)]; }
  bool has_row(tensor::Weight DecoderBlock::*target) const;

 private:
  Config cfg_;
  DecoderStyle style_;
  DecoderEnds ends_;
  std::vector<DecoderBlock> blocks_;
};

}  // namespace fovea::models
