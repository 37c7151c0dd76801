// Reads .safetensors (docs/hf-folders.md): one file's bytes to named tensors. The file is checked whole before anything
// of it is handed out: its tensors cover its data without gap or overlap, and no allocation is sized by a field.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "fovea/base/result.h"
#include "fovea/formats/source.h"

namespace fovea::formats {

struct Safetensors {
  static constexpr uint64_t kMaxHeaderBytes = 100'000'000, kMaxNameBytes = 512, kMaxDims = 8;

  std::vector<TensorInfo> tensors;              // as their data lie; views into the bytes
  std::map<std::string, std::string> metadata;  // what "__metadata__" holds
};

// kData, kLimit or kUnsupported (an element type), with the name, the tensor and what was found against what is
// allowed. A single number gets the dimension 1. Data lie where the file has them: at any address.
Result<Safetensors> parse_safetensors(std::span<const std::byte> bytes, const std::string& name);

}  // namespace fovea::formats
