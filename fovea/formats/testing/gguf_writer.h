// For tests: builds GGUF files, right ones and every kind of wrong one.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace fovea::formats {

class GgufWriter {
 public:
  // What the header and the tensor table say is what was added, unless overridden here.
  uint32_t version = 3;
  int64_t n_tensors = -1, n_keys = -1;
  uint64_t alignment = 32;  // of the data; add the key "general.alignment" as well if it is not 32

  template <typename T>
  static std::string number(T value) {
    static_assert(std::is_arithmetic_v<T>);
    return std::string(reinterpret_cast<const char*>(&value), sizeof(T));
  }
  static std::string text(std::string_view s) { return number<uint64_t>(s.size()) + std::string(s); }

  // A key with its value as raw bytes.
  GgufWriter& raw_key(std::string_view name, uint32_t type, const std::string& value) {
    keys_.push_back(text(name) + number(type) + value);
    return *this;
  }
  GgufWriter& raw_entry(const std::string& bytes) {
    keys_.push_back(bytes);
    return *this;
  }
  template <typename T>
  GgufWriter& key(std::string_view name, T value) {
    return raw_key(name, type_of<T>(), number(value));
  }
  GgufWriter& key(std::string_view name, const char* value) { return raw_key(name, 8, text(value)); }
  GgufWriter& key(std::string_view name, const std::string& value) { return raw_key(name, 8, text(value)); }
  template <typename T>
  GgufWriter& key(std::string_view name, const std::vector<T>& values) {
    std::string bytes;
    for (const T& value : values) {
      if constexpr (std::is_arithmetic_v<T>)
        bytes += number(value);
      else
        bytes += text(value);
    }
    return raw_key(name, 9, number(type_of<T>()) + number<uint64_t>(values.size()) + bytes);
  }

  // Data of `bytes` bytes (default: 4 for every element, zeros); offset -1 = after the one before.
  GgufWriter& tensor(std::string_view name, const std::vector<uint64_t>& dims, int32_t type = 0, int64_t bytes = -1,
                     int64_t offset = -1) {
    uint64_t n = 4;
    for (const uint64_t dim : dims) n *= dim;
    if (bytes >= 0) n = static_cast<uint64_t>(bytes);
    std::string entry = text(name) + number<uint32_t>(static_cast<uint32_t>(dims.size()));
    for (const uint64_t dim : dims) entry += number(dim);
    tensors_.push_back(entry + number(type) +
                       number<uint64_t>(offset >= 0 ? static_cast<uint64_t>(offset) : data_.size()));
    data_.append(n, '\0');
    data_.resize((data_.size() + alignment - 1) / alignment * alignment);
    return *this;
  }
  GgufWriter& raw_tensor(const std::string& entry) {
    tensors_.push_back(entry);
    return *this;
  }
  GgufWriter& trailing(const std::string& bytes) {
    trailing_ = bytes;
    return *this;
  }
  std::string& data() { return data_; }

  std::string build() const {
    std::string out = "GGUF" + number(version);
    out += number<uint64_t>(n_tensors >= 0 ? static_cast<uint64_t>(n_tensors) : tensors_.size());
    out += number<uint64_t>(n_keys >= 0 ? static_cast<uint64_t>(n_keys) : keys_.size());
    for (const std::string& entry : keys_) out += entry;
    for (const std::string& entry : tensors_) out += entry;
    if (!data_.empty()) out.resize((out.size() + alignment - 1) / alignment * alignment);
    return out + data_ + trailing_;
  }

 private:
  template <typename T>
  static constexpr uint32_t type_of() {
    if constexpr (std::is_same_v<T, uint8_t>) return 0;
    if constexpr (std::is_same_v<T, int8_t>) return 1;
    if constexpr (std::is_same_v<T, uint16_t>) return 2;
    if constexpr (std::is_same_v<T, int16_t>) return 3;
    if constexpr (std::is_same_v<T, uint32_t>) return 4;
    if constexpr (std::is_same_v<T, int32_t>) return 5;
    if constexpr (std::is_same_v<T, float>) return 6;
    if constexpr (std::is_same_v<T, bool>) return 7;
    if constexpr (std::is_same_v<T, uint64_t>) return 10;
    if constexpr (std::is_same_v<T, int64_t>) return 11;
    if constexpr (std::is_same_v<T, double>) return 12;
    return 8;
  }
  std::vector<std::string> keys_, tensors_;
  std::string data_, trailing_;
};

}  // namespace fovea::formats
