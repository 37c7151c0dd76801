// Whether two tokenizers read texts alike: tried on the text of every token, on one of many scripts, and on random
// texts out of the characters that a rule is written with.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "fovea/base/result.h"
#include "fovea/tokenizers/tokenizer.h"

namespace fovea::tokenizers {

// `rules`: how the tokenizer's file writes its rules, in any form; only the characters count.
std::vector<std::string> probe_texts(const Tokenizer& tokenizer, std::string_view rules);
Result<bool> gives_the_same(const Tokenizer& a, const Tokenizer& b, const std::vector<std::string>& texts);

}  // namespace fovea::tokenizers
