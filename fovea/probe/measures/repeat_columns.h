// Columns of a head profile from random tokens that are repeated: which heads look at earlier occurrences of the
// current token, and at what came after them. Tang et al., "RazorAttention", arXiv:2407.15891, sec. 3.2.
#pragma once

#include <cstdint>

#include "fovea/attention/shape.h"
#include "fovea/engine/session.h"
#include "fovea/tokenizers/tokenizer.h"

namespace fovea::probe {

// Adds razor_echo and razor_induction: a block of random tokens, four times, is read once behind the model's first
// token, if it wants one; its column is no part of either. kCancelled.
Status measure_repeats(engine::Session& session, const tokenizers::Tokenizer& tokenizer, uint64_t seed,
                       attention::HeadProfile& out);

}  // namespace fovea::probe
