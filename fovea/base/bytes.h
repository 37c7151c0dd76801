// Bounds-checked reading of little-endian bytes; every failure names the offset.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

#include "fovea/base/result.h"

namespace fovea {

class ByteReader {
 public:
  // `name` (usually the path) starts every error message.
  ByteReader(std::span<const std::byte> bytes, std::string name) : bytes_(bytes), name_(std::move(name)) {}

  size_t offset() const { return offset_; }
  size_t remaining() const { return bytes_.size() - offset_; }
  const std::string& name() const { return name_; }

  // A trivially copyable number. kData if fewer bytes are left; `what` says what was being read.
  template <typename T>
  Result<T> read(std::string_view what) {
    static_assert(std::is_arithmetic_v<T>);
    if (remaining() < sizeof(T)) return too_short(what, sizeof(T));
    T value;
    std::memcpy(&value, bytes_.data() + offset_, sizeof(T));
    offset_ += sizeof(T);
    return value;
  }
  Result<std::span<const std::byte>> read_bytes(uint64_t n, std::string_view what);
  Result<std::string_view> read_chars(uint64_t n, std::string_view what);
  Status seek(uint64_t offset, std::string_view what);

 private:
  Error too_short(std::string_view what, uint64_t wanted) const;
  std::span<const std::byte> bytes_;
  std::string name_;
  size_t offset_ = 0;
};

// Text of unknown origin made safe for a message or a log: quoted, control characters and invalid
// UTF-8 as \xNN, cut at `max_bytes`.
std::string quote(std::string_view text, size_t max_bytes = 120);
// The same without the quotes and whole, for what stands alone in a line: a file's name in a table, an error's
// sentence.
std::string escaped_line(std::string_view text);
// Lines of a text: newlines and tabs stay.
std::string escaped_text(std::string_view text);
std::string escaped_html(std::string_view text);  // the same, for text and attributes of a page

}  // namespace fovea
