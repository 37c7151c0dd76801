// For tests: a .safetensors file of a header as given and data.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <cstring>
#include <string>

namespace fovea::formats {

inline std::string safetensors_bytes(const std::string& header, const std::string& data) {
  const uint64_t n = header.size();
  std::string out(sizeof(n), '\0');
  std::memcpy(out.data(), &n, sizeof(n));
  return out + header + data;
}

// One tensor after the other, of ones of the type F32.
class SafetensorsFile {
 public:
  SafetensorsFile& add(const std::string& name, std::initializer_list<int64_t> shape, const std::string& type = "F32",
                       std::string bytes = {}) {
    size_t n = 1;
    std::string dims;
    for (const int64_t dim : shape)
      n *= static_cast<size_t>(dim), dims += fmt::format("{}{}", dims.empty() ? "" : ",", dim);
    if (bytes.empty()) {
      const float value = 1;
      bytes.resize(4 * n);
      for (size_t i = 0; i < n; ++i) std::memcpy(bytes.data() + 4 * i, &value, 4);
    }
    header_ += fmt::format(R"({}"{}":{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})", header_.empty() ? "" : ",",
                           name, type, dims, data_.size(), data_.size() + bytes.size());
    data_ += bytes;
    return *this;
  }
  std::string build() const { return safetensors_bytes("{" + header_ + "}", data_); }

 private:
  std::string header_, data_;
};

}  // namespace fovea::formats
