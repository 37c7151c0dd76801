// --estimate: what a run would take, from the model file's metadata alone.
#pragma once

#include "apps/cli/model_session.h"

namespace fovea::cli {

// Prints memory and the sizes of the passes of a prompt with an answer of `n_predict` tokens (-1: to the end of the
// context); no weight is read. kLimit, as the run would say it, if the prompt does not fit.
Status print_estimate(const Common& common, const ModelFlags& flags, int64_t n_prompt, int64_t n_predict);

}  // namespace fovea::cli
