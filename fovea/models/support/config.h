// What a GGUF file's metadata says about a language model, checked before anything is allocated.
#pragma once

#include <cstdint>
#include <string>

#include "fovea/attention/shape.h"
#include "fovea/base/result.h"
#include "fovea/formats/gguf.h"
#include "fovea/tensor/ops/rope.h"

namespace fovea::models {

// The sizes of a language model, from its metadata.
struct ModelSizes {
  std::string architecture;
  int64_t n_layers = 0, n_heads = 0, n_kv_heads = 0, head_dim = 0, d_model = 0, d_ff = 0, vocab_size = 0, n_ctx = 0;
  // The caps, checked before anything is allocated; `fovea check --limits` prints them.
  static constexpr int64_t kMaxLayers = 1'024, kMaxHeads = 1'024, kMaxHeadDim = 4'096, kMaxWidth = 1 << 20,
                           kMaxVocab = 1 << 22, kMaxContext = 1 << 24;
};

// kUnsupported for a projector, an adapter, a bare vocabulary or an architecture Fovea does not
// know; kData or kLimit naming the key and what is allowed.
Result<ModelSizes> read_sizes(const formats::Gguf& gguf);

// What every family needs; fields that would change the maths and are not known here are refused.
struct Config {
  std::string architecture;
  attention::ModelShape shape;
  float norm_eps = 0;
  tensor::RopeTable rope;  // `pairing` is the family's to set
};
Result<Config> read_config(const formats::Gguf& gguf);

}  // namespace fovea::models
