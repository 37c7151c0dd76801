// The file tokenizer.json of the `tokenizers` library, whole.
#pragma once

#include <string>
#include <string_view>

#include "fovea/base/result.h"
#include "fovea/tokenizers/pipeline.h"

namespace fovea::tokenizers {

// `name` begins messages. Truncation and padding are what a caller asks for, and are not read.
Result<Pipeline> read_tokenizer_json(std::string_view text, const std::string& name);

}  // namespace fovea::tokenizers
