// Writes named tensors to a .safetensors file (docs/safetensors.md), streamed and atomic: the names
// and shapes first, then the bytes of each tensor in that order, in pieces of any size; the file
// appears under its name at commit().
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fovea/base/file.h"
#include "fovea/base/result.h"

namespace fovea::formats {

enum class SafeDtype : int { kF32, kF16, kBF16, kI32, kI64, kU8 };
std::string_view name_of(SafeDtype dtype);  // "F32", as in the file
uint64_t bytes_of(SafeDtype dtype);

struct SafeTensor {
  std::string name;
  SafeDtype dtype = SafeDtype::kF32;
  std::vector<int64_t> shape;  // row-major; no dimension: a single number
};

class SafetensorsWriter {
 public:
  static constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // readers refuse more

  // kUsage: a name twice, "__metadata__" or not UTF-8, a negative dimension, sizes past 2^63.
  // kLimit: a header over the cap.
  static Result<SafetensorsWriter> create(const std::string& path, const std::vector<SafeTensor>& tensors,
                                          const std::map<std::string, std::string>& metadata = {});
  // Into a file that was opened before; `path` names it in messages.
  static Result<SafetensorsWriter> create(FileWriter file, const std::string& path,
                                          const std::vector<SafeTensor>& tensors,
                                          const std::map<std::string, std::string>& metadata = {});
  // The next bytes of the data, little-endian. More than was announced is a caller's mistake.
  Status write(std::span<const std::byte> bytes);
  Status write(std::span<const float> values) { return write(std::as_bytes(values)); }
  Status write(std::span<const int32_t> values) { return write(std::as_bytes(values)); }
  // All of it must have been written. Without commit() nothing is left behind.
  Status commit();

 private:
  SafetensorsWriter(FileWriter file, uint64_t bytes) : file_(std::move(file)), due_(bytes) {}
  FileWriter file_;
  uint64_t due_;  // bytes still to come
};

}  // namespace fovea::formats
