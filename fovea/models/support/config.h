// What a GGUF file's metadata says about a language model, checked before anything is allocated.
#pragma once

#include <climits>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fovea/attention/shape.h"
#include "fovea/base/result.h"
#include "fovea/formats/source.h"
#include "fovea/tensor/ops/attention/rope.h"
#include "fovea/tensor/ops/math/activations.h"

namespace fovea::models {

// The sizes of a language model, from its metadata.
struct ModelSizes {
  std::string architecture;
  int64_t n_layers = 0, n_heads = 0, n_kv_heads = 0, head_dim = 0, d_model = 0, d_ff = 0, vocab_size = 0, n_ctx = 0;
  attention::ModelShape shape() const;
  // The caps, checked before anything is allocated; `fovea check --limits` prints them.
  static constexpr int64_t kMaxLayers = 1'024, kMaxHeads = 1'024, kMaxHeadDim = 4'096, kMaxWidth = 1 << 20,
                           kMaxVocab = 1 << 22, kMaxContext = 1 << 24, kMaxExperts = 4'096,
                           kMaxExpertsInAllLayers = 1 << 16;
};

// kUnsupported for a projector, an adapter, a bare vocabulary or an architecture Fovea does not
// know; kData or kLimit naming the key and what is allowed.
Result<ModelSizes> read_sizes(const formats::ModelSource& source);

// A metadata key of an architecture that a family knows. Any other key of its architecture may change
// the maths: read_config refuses the file and names it.
struct FamilyKey {
  std::string_view name;  // "block_count" of llama.block_count
  enum class Use {
    kRead,  // by the family or what it shares with others
    kNote,  // changes nothing that is computed
    kOnly,  // not read: the file may have it with the value `only`, which asks for nothing
  } use = Use::kRead;
  std::string_view only = {};  // as Gguf::text_of writes it
};
// Those that read_config reads of a plain decoder, and `more` of one family; one of `more` takes the place of another
// of its name. read_config reads no key that the family does not list.
std::vector<FamilyKey> decoder_keys(std::initializer_list<FamilyKey> more = {});
// The same of one with layer norms: attention.layer_norm_epsilon in place of the other.
std::vector<FamilyKey> layer_norm_keys(std::initializer_list<FamilyKey> more = {});
// Of an encoder with layer norms.
std::vector<FamilyKey> encoder_keys(std::initializer_list<FamilyKey> more = {});
// `keys` without those of angles, of a family whose positions are no angles.
std::vector<FamilyKey> without_rope(std::vector<FamilyKey> keys);

// What keys say of a decoder's chain besides its shape; by default nothing.
struct DecoderScalars {
  float embed_scale = 1, residual_scale = 1;  // multiply the embeddings, what a block adds
  float logit_scale = 1, logit_softcap = 0;   // > 0: a logit s becomes softcap tanh(s / softcap)
  bool parallel = false;                      // attention and MLP read the same x
  tensor::Activation activation = tensor::Activation::kSilu;
  bool gated = true;  // the MLP of a family that has both
};

// Of the layers whose MLP is a mixture; Shazeer et al., arXiv:1701.06538.
struct ExpertSizes {
  int n = 0, used = 0;                  // 0: there are none; each token goes to `used` of them
  int64_t d_ff = 0, shared_d_ff = 0;    // of each; of the one that every token goes to, beside them (0: none)
  bool normalized = true;               // the weights of those used sum up to 1
  std::vector<bool> dense_layers = {};  // those with a plain MLP; empty: none
  bool in(int layer) const { return n > 0 && (dense_layers.empty() || !dense_layers[static_cast<size_t>(layer)]); }
};

// What every family needs.
struct Config {
  std::string architecture;
  attention::ModelShape shape;
  float norm_eps = 0;
  std::vector<tensor::RopeTable> ropes = {};       // AttentionShape::rope counts these
  std::vector<tensor::RopeTable> long_ropes = {};  // in their place for contexts of more than `short_context` tokens
  int short_context = INT_MAX;
  DecoderScalars decoder = {};
  struct Distances {
    int n_buckets = 0, far = 0;  // a bias of scores for each bucket of distances; all from `far` on are in the last
  } distances = {};
  int n_token_types = 0;  // rows of a table of segments; every token here is of the first
  ExpertSizes experts = {};
  std::span<const tensor::RopeTable> ropes_for(int n_ctx) const { return n_ctx > short_context ? long_ropes : ropes; }
};
Result<Config> read_config(const formats::ModelSource& source);

}  // namespace fovea::models
