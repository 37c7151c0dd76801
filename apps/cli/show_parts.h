// What `fovea show` says of what is trained here and is no language model by itself: a LoRA adapter, a net that looks
// at pictures or reads sequences.
#pragma once

#include <string>

#include "apps/cli/command.h"

namespace fovea::cli {

// False, and nothing was printed: at `path` lies neither. `list_hooks`: a net's hooks, one a line.
Result<bool> show_part(const std::string& path, bool list_hooks, const Common& common);

}  // namespace fovea::cli
