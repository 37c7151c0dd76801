#include "fovea/base/bytes.h"

#include <algorithm>

namespace fovea {
namespace {

// Length of the valid UTF-8 sequence at the start of `text`, or 0 (overlong forms, surrogates and
// code points past U+10FFFF are invalid).
size_t utf8_length(std::string_view text) {
  const auto at = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = at(0);
  size_t n = 0;
  if (lead < 0x80) return 1;
  if (lead >= 0xC2 && lead <= 0xDF)
    n = 2;
  else if (lead >= 0xE0 && lead <= 0xEF)
    n = 3;
  else if (lead >= 0xF0 && lead <= 0xF4)
    n = 4;
  if (n == 0 || text.size() < n) return 0;
  for (size_t i = 1; i < n; ++i) {
    if ((at(i) & 0xC0) != 0x80) return 0;
  }
  const unsigned char second = at(1);
  if ((lead == 0xE0 && second < 0xA0) || (lead == 0xED && second > 0x9F) || (lead == 0xF0 && second < 0x90) ||
      (lead == 0xF4 && second > 0x8F)) {
    return 0;
  }
  return n;
}

// C1 controls (a terminal may obey them), line separators and the marks that reorder text.
bool deceives(std::string_view c) {
  if (c.size() == 2) return c[0] == '\xC2' && static_cast<unsigned char>(c[1]) < 0xA0;
  if (c.size() != 3 || c[0] != '\xE2') return false;
  const auto second = static_cast<unsigned char>(c[1]), third = static_cast<unsigned char>(c[2]);
  if (second == 0x80) return third == 0x8E || third == 0x8F || (third >= 0xA8 && third <= 0xAE);
  return second == 0x81 && third >= 0xA6 && third <= 0xA9;
}

}  // namespace

Error ByteReader::too_short(std::string_view what, uint64_t wanted) const {
  Error error = make_error(ErrorCode::kData,
                           "{}: the file ends at offset {} inside {}: {} bytes are needed at offset {}, {} are left",
                           name_, bytes_.size(), what, wanted, offset_, remaining());
  error.where = fmt::format("offset {}", offset_);
  return error;
}

Result<std::span<const std::byte>> ByteReader::read_bytes(uint64_t n, std::string_view what) {
  if (n > remaining()) return too_short(what, n);
  const auto part = bytes_.subspan(offset_, static_cast<size_t>(n));
  offset_ += static_cast<size_t>(n);
  return part;
}

Result<std::string_view> ByteReader::read_chars(uint64_t n, std::string_view what) {
  FOVEA_ASSIGN_OR_RETURN(const auto part, read_bytes(n, what));
  return std::string_view(reinterpret_cast<const char*>(part.data()), part.size());
}

Status ByteReader::seek(uint64_t offset, std::string_view what) {
  if (offset > bytes_.size()) {
    Error error = make_error(ErrorCode::kData, "{}: {} is at offset {}, past the end of the file at {}", name_, what,
                             offset, bytes_.size());
    error.where = fmt::format("offset {}", offset);
    return error;
  }
  offset_ = static_cast<size_t>(offset);
  return {};
}

std::string quoted(std::string_view text, size_t max_bytes) {
  std::string out = "\"";
  for (size_t i = 0; i < text.size();) {
    const size_t n = utf8_length(text.substr(i));
    const std::string_view c = text.substr(i, std::max<size_t>(n, 1));
    if (i + c.size() > max_bytes) return out + "\"...";
    const auto byte = static_cast<unsigned char>(c[0]);
    if (c == "\"" || c == "\\") {
      out += '\\';
      out += c;
    } else if (n == 0 || byte < 0x20 || byte == 0x7F || deceives(c)) {
      for (const char raw : c) out += fmt::format("\\x{:02X}", static_cast<unsigned char>(raw));
    } else {
      out += c;
    }
    i += c.size();
  }
  return out + "\"";
}

}  // namespace fovea
