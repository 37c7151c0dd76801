// Policy files: the methods of `--attention @FILE` and their knobs, each with its place for messages.
#pragma once

#include <string>
#include <vector>

#include "fovea/base/result.h"

namespace fovea::attention {

struct PolicyEntry {
  struct Knob {
    std::string name, value, place;  // place: "line 3, column 7"
  };
  std::string method, place;
  std::vector<Knob> knobs;
};

// [{"method": NAME, KNOB: VALUE, ...}, ...]. kData with file, line and column: not JSON, another shape, a key twice.
Result<std::vector<PolicyEntry>> read_policy_file(const std::string& path);

}  // namespace fovea::attention
