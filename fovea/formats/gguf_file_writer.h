// Writes GGUF files of version 3 (docs/gguf.md), streamed and atomic: keys and tensors are named first, then come the
// bytes of each tensor in that order, in pieces of any size; the file appears under its name at commit().
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fovea/base/file_writer.h"
#include "fovea/base/result.h"
#include "fovea/formats/gguf.h"

namespace fovea::formats {

// Keys and their values in the order in which they will stand. A key that is there already gets the new value.
class GgufKeys {
 public:
  void put(std::string_view name, uint32_t value);
  void put(std::string_view name, int32_t value);
  void put(std::string_view name, float value);
  void put(std::string_view name, bool value);
  void put(std::string_view name, const char* value) { put(name, std::string_view(value)); }
  void put(std::string_view name, std::string_view value);
  void put(std::string_view name, std::span<const int32_t> values);
  void put(std::string_view name, std::span<const float> values);
  void put(std::string_view name, std::span<const bool> values);
  void put(std::string_view name, std::span<const std::string> values);
  void put_chars(std::string_view name, std::string_view bytes);  // an array of uint8
  void put(const Gguf::RawKey& key);
  void erase(std::string_view name);

  size_t count() const { return entries_.size(); }
  std::string bytes() const;  // of all entries, as in the file

 private:
  struct Entry {
    std::string name, value;  // value: with its type
  };
  void put_bytes(std::string_view name, std::string value);
  std::vector<Entry> entries_;
};

struct GgufTensor {
  std::string name;
  kernels::DType dtype = kernels::DType::kF32;
  std::vector<int64_t> dims;  // dims[0] varies fastest
};

class GgufFileWriter {
 public:
  // kUsage: a name that is there twice or longer than readers take, no or more than 4 dimensions, a type of other
  // files, a row that is not a whole number of blocks, sizes past 2^63. kIo: no room on the disk, or what writing says.
  static Result<GgufFileWriter> create(FileWriter file, const GgufKeys& keys, const std::vector<GgufTensor>& tensors,
                                       uint64_t alignment = 32);
  // The next bytes of the tensors; never past the end of the one that is being written, which is the caller's mistake.
  Status write(std::span<const std::byte> bytes);
  Status commit();                           // all bytes must have been written
  uint64_t bytes() const { return total_; }  // of the whole file

 private:
  GgufFileWriter(FileWriter file, uint64_t alignment) : file_(std::move(file)), alignment_(alignment) {}
  Status end_tensors();  // those that are complete: their padding

  FileWriter file_;
  uint64_t alignment_, total_ = 0, written_ = 0;
  std::vector<uint64_t> sizes_;  // of the tensors
  size_t at_ = 0;                // the one that is being written
};

}  // namespace fovea::formats
