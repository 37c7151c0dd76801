// `fovea capture` of a net that was trained here (docs/train.md): its input are samples of data.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "apps/cli/command.h"

namespace fovea::cli {

struct NetCapture {
  std::string folder, data, attention, out;
  std::vector<std::string> hooks;
  int64_t n_samples = 1;
  uint64_t max_bytes = 0;
};
Status capture_net(const NetCapture& wanted, const Common& common);

}  // namespace fovea::cli
