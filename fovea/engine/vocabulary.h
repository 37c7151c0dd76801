// The tokenizer of a model file, without its weights.
#pragma once

#include <memory>

#include "fovea/base/result.h"
#include "fovea/formats/gguf.h"
#include "fovea/tokenizers/tokenizer.h"

namespace fovea::engine {

// Views into `gguf`. kData names the key that is missing or wrong.
Result<tokenizers::Vocabulary> read_vocabulary(const formats::Gguf& gguf);
Result<std::shared_ptr<const tokenizers::Tokenizer>> load_tokenizer(const formats::Gguf& gguf);

}  // namespace fovea::engine
