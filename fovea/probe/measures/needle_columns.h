// The columns that the needle task gives (arXiv:2404.15574).
#pragma once

#include "fovea/engine/session.h"
#include "fovea/probe/measures/profile.h"

namespace fovea::probe {

// Runs out.prompts; fills out.samples and, if one was accepted, the columns: without one nothing is known.
Status measure_retrieval(engine::Session& session, const tokenizers::Tokenizer& tokenizer,
                         const ProfileOptions& options, MeasuredProfile& out);

}  // namespace fovea::probe
