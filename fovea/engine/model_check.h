// Is this GGUF file a model that Fovea can run? Everything that can be known without running it:
// sizes within their caps and consistent, required tensors there with the right shapes, the
// vocabulary sound, the weights finite.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "fovea/base/result.h"
#include "fovea/formats/gguf.h"

namespace fovea::engine {

// The sizes of a language model, from its metadata.
struct ModelSizes {
  std::string architecture;
  int64_t n_layers = 0, n_heads = 0, n_kv_heads = 0, head_dim = 0, d_model = 0, d_ff = 0, vocab_size = 0, n_ctx = 0;
  // The caps, checked before anything is allocated; `fovea check --limits` prints them.
  static constexpr int64_t kMaxLayers = 1'024, kMaxHeads = 1'024, kMaxHeadDim = 4'096, kMaxWidth = 1 << 20, kMaxVocab = 1 << 22,
                           kMaxContext = 1 << 24;
};

const std::vector<std::string>& supported_architectures();

// kUnsupported for a projector, an adapter, a bare vocabulary or an architecture Fovea does not
// know; kData or kLimit naming the key and what is allowed.
Result<ModelSizes> read_sizes(const formats::Gguf& gguf);

struct CheckOptions {
  bool strict = false;   // the reader's warnings are problems too
  bool weights = true;   // read all weights and look for NaN and Inf
};
// Every problem, not only the first; empty = sound. Error::where names the key or tensor.
std::vector<Error> check_model(const formats::Gguf& gguf, const CheckOptions& options);

}  // namespace fovea::engine
