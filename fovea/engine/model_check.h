// Is this GGUF file a model that Fovea can run? Everything that can be known without running it:
// sizes within their caps and consistent, required tensors there with the right shapes, the
// vocabulary sound, the weights finite.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "fovea/base/result.h"
#include "fovea/formats/gguf.h"
#include "fovea/models/support/config.h"

namespace fovea::engine {

using models::ModelSizes;
using models::read_sizes;

struct CheckOptions {
  bool strict = false;  // the reader's warnings are problems too
  bool weights = true;  // read all weights and look for NaN and Inf
};
// Every problem, not only the first; empty = sound. Error::where names the key or tensor.
std::vector<Error> check_model(const formats::Gguf& gguf, const CheckOptions& options);

}  // namespace fovea::engine
