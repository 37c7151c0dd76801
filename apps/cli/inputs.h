// What a command reads must not be what it writes.
#pragma once

#include <string>
#include <vector>

#include "fovea/base/result.h"

namespace fovea::cli {

// kUsage if `out` is one of the inputs or a file of one that is a folder. Names that are empty or "-" are none. Mapped
// files FileWriter looks after by itself.
Status check_not_an_input(const std::string& out, const std::vector<std::string>& inputs);

}  // namespace fovea::cli
