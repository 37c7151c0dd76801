// GGUF v2 and v3: bytes to named tensors and metadata; knows no model family. Everything is
// checked before it is handed out, and no allocation is sized by an unchecked field.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fovea/base/mapped_file.h"
#include "fovea/base/result.h"
#include "fovea/kernels/dtype.h"

namespace fovea::formats {

struct TensorInfo {
  std::string name;
  kernels::DType dtype = kernels::DType::kF32;
  std::vector<int64_t> dims;  // as in the file: dims[0] varies fastest
  uint64_t offset = 0;        // from the start of the data section of its file
  uint64_t bytes = 0;
  std::span<const std::byte> data;  // valid while the Gguf (or the span given to parse) lives
};

class Gguf {
 public:
  static constexpr uint64_t kMaxKeyBytes = 65'535, kMaxStringBytes = uint64_t{64} << 20, kMaxTemplateBytes = 1 << 20;
  static constexpr uint64_t kMaxMetadataBytes = uint64_t{512} << 20, kMaxKeys = 1'000'000, kMaxTensors = 1'000'000;
  static constexpr uint64_t kMaxNameBytes = 63, kMaxArchitectureBytes = 64, kMaxShards = 99'999;

  struct Options {
    bool strict = false;  // what is otherwise a warning (odd bools, trailing bytes) is an error
  };

  // The first shard opens the others beside it.
  static Result<std::shared_ptr<const Gguf>> open(const std::string& path) { return open(path, Options()); }
  static Result<std::shared_ptr<const Gguf>> open(const std::string& path, Options options);
  // Borrows `bytes`; one file only, shards are not followed.
  static Result<Gguf> parse(std::span<const std::byte> bytes, const std::string& name) {
    return parse(bytes, name, Options());
  }
  static Result<Gguf> parse(std::span<const std::byte> bytes, const std::string& name, Options options);

  // kData if the key is missing or of another kind; the message names file and key.
  bool has(std::string_view key) const { return values_.find(key) != values_.end(); }
  std::vector<std::string> keys_under(std::string_view prefix) const;  // by name
  Result<uint64_t> get_u64(std::string_view key) const;                // any integer type, not negative
  Result<int64_t> get_i64(std::string_view key) const;
  Result<double> get_f64(std::string_view key) const;  // any number
  Result<bool> get_bool(std::string_view key) const;
  Result<std::string> get_string(std::string_view key) const;
  Result<std::vector<std::string_view>> get_strings(std::string_view key) const;
  Result<std::vector<double>> get_f64s(std::string_view key) const;   // any number type
  Result<std::vector<int64_t>> get_i64s(std::string_view key) const;  // any integer type or bool
  // A number, a bool ("true") or a string as one would write it; "an array" of an array. Empty if the key is missing.
  std::string text_of(std::string_view key) const;

  const std::vector<TensorInfo>& tensors() const { return tensors_; }
  const TensorInfo* find_tensor(std::string_view name) const;
  const std::vector<std::string>& warnings() const { return warnings_; }
  const std::string& name() const { return name_; }
  const std::vector<std::shared_ptr<const MappedFile>>& files() const { return files_; }  // none if it was parsed
  // Gives the resident pages of a tensor's bytes back; they can be read again.
  void release(std::span<const std::byte> bytes) const;
  Status check_intact() const;  // kIo if a file changed underneath; see MappedFile

 private:
  struct Value {
    uint32_t type = 0, element = 0;
    uint64_t count = 1, index = 0;
    std::span<const std::byte> payload;  // a string without its length; the elements of an array
  };
  friend class GgufParser;
  Result<const Value*> find(std::string_view key, bool array, std::string_view wanted) const;
  Error wrong_kind(std::string_view key, const Value& value, std::string_view wanted) const;

  std::string name_;
  std::map<std::string, Value, std::less<>> values_;
  std::vector<TensorInfo> tensors_;
  std::map<std::string, size_t, std::less<>> tensor_index_;
  std::vector<std::string> warnings_;
  std::vector<std::shared_ptr<const MappedFile>> files_;
};

}  // namespace fovea::formats
