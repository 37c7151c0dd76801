// The tokenizer of a model file, without its weights.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "fovea/base/result.h"
#include "fovea/formats/source.h"
#include "fovea/tokenizers/tokenizer.h"

namespace fovea::engine {

// kData names the key that is missing or wrong. What is odd, but runs, is logged, or added to `warnings` if they are
// given.
Result<std::shared_ptr<const tokenizers::Tokenizer>> load_tokenizer(const formats::ModelSource& source,
                                                                    std::vector<std::string>* warnings = nullptr);

}  // namespace fovea::engine
