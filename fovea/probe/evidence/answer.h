// An answer and where it came from, in one: the decode loop with an Evidence looking on.
#pragma once

#include "fovea/engine/generate.h"
#include "fovea/probe/evidence/evidence.h"

namespace fovea::probe {

// The sequence holds the first tokens of the prompt, at most all but one. The rest is fed, its last token with
// `evidence` in place: that token's row gives the first of the answer. Of `options`, on_token and before are set here,
// and drafts are kept as short as their rows can wait. n_prompt and prompt_seconds count all that was fed.
Result<engine::Generation> answer_with_evidence(engine::Session& session, engine::SequenceId sequence,
                                                const engine::DocumentPrompt& prompt, Evidence& evidence,
                                                engine::GenerateOptions options);

}  // namespace fovea::probe
