// `fovea bench --quality`: the divergence of fast from exact arithmetic on the same file and text.
#pragma once

#include <string>

#include "apps/cli/model_session.h"

namespace fovea::cli {

// Windows of flags.n_ctx tokens (0: 512) of the text, the second half of each scored: per token
// KL(exact || fast) = sum over the vocabulary of p log(p / q), and whether the likeliest token agrees.
Status measure_quality(const Common& common, ModelFlags flags, const std::string& file, int max_windows);

}  // namespace fovea::cli
