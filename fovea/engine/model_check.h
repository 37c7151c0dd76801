// Is this GGUF file a model that Fovea can run? It goes the way of a run as far as the first token of
// the prompt: configuration, weights, tokenizer, chat template; and looks at every weight.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "fovea/base/result.h"
#include "fovea/formats/source.h"
#include "fovea/models/support/config.h"

namespace fovea::engine {

using models::ModelSizes;
using models::read_sizes;

struct CheckReport {
  std::vector<Error> problems;        // Error::where names the key or tensor; none: it runs
  std::vector<std::string> warnings;  // of the file and of its vocabulary
};
struct CheckOptions {
  bool strict = false;  // warnings are problems too
  bool weights = true;  // read all weights and look for NaN and Inf
};
// Every problem of the weights, and the first of the configuration, the vocabulary and the template.
CheckReport check_model(const formats::ModelSource& source, const CheckOptions& options);

}  // namespace fovea::engine
