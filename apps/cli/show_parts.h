// What `fovea show` says of what is trained here and is no language model by itself: a LoRA adapter, a net that looks
// at pictures or reads sequences.
#pragma once

#include <string>

#include "apps/cli/command.h"

namespace fovea::cli {

// False, and nothing was printed: at `path` lies neither.
Result<bool> show_part(const std::string& path, const Common& common);

}  // namespace fovea::cli
