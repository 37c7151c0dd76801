// Reads NumPy files (.npy) of whole numbers in one dimension: lists of token ids.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "fovea/base/result.h"

namespace fovea {

bool is_npy(std::string_view bytes);
// Little-endian integers of 1 to 8 bytes, signed or not. kData, kUnsupported: what the file holds instead.
Result<std::vector<int64_t>> parse_npy_integers(std::string_view bytes, const std::string& name);

}  // namespace fovea
