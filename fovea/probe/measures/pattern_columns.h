// The columns that two short runs give: a text, and random tokens that are repeated.
#pragma once

#include <cstdint>
#include <string>

#include "fovea/engine/session.h"
#include "fovea/tokenizers/tokenizer.h"

namespace fovea::probe {

Status measure_patterns(engine::Session& session, const tokenizers::Tokenizer& tokenizer, const std::string& text,
                        uint64_t seed, attention::HeadProfile& out);

}  // namespace fovea::probe
