// Whether two tokenizers read texts alike: tried on the text of every token and on one of many scripts.
#pragma once

#include <string>

#include "fovea/base/result.h"
#include "fovea/tokenizers/tokenizer.h"

namespace fovea::tokenizers {

std::string probe_text(const Tokenizer& tokenizer);
Result<bool> gives_the_same(const Tokenizer& a, const Tokenizer& b, const std::string& probe);

}  // namespace fovea::tokenizers
