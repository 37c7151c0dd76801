// NumPy files (.npy): reads whole numbers in one dimension (lists of token ids) and arrays of floats, begins a
// file of float32 rows.
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

// Any number of dimensions, the last one varies fastest; float64 and whole numbers become float32.
struct NpyFloats {
  std::vector<int64_t> dims;
  std::vector<float> values;
  bool of_bytes = false;  // the file has uint8, as pixels mostly are
};
Result<NpyFloats> parse_npy_floats(std::string_view bytes, const std::string& name);

// What stands before rows * cols float32 values: magic, version 1.0, and a dictionary padded so that data begins at a
// multiple of 64.
std::string npy_header(int64_t rows, int64_t cols);

}  // namespace fovea
