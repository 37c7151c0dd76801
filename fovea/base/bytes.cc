#include "fovea/base/bytes.h"

#include <algorithm>

#include "fovea/base/utf8.h"

namespace fovea {
namespace {

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

namespace {

// Appends `text` with what a terminal would obey or the eye not see as \xNN. False once it would pass `max_bytes`.
bool append_escaped(std::string& out, std::string_view text, std::string_view kept, bool quotes, size_t max_bytes) {
  const char *p = text.data(), *end = p + text.size();
  while (p < end) {
    const size_t n = code_point_at(p, end).bytes;
    const std::string_view c(p, std::max<size_t>(n, 1));
    p += c.size();
    if (static_cast<size_t>(p - text.data()) > max_bytes) return false;
    const auto byte = static_cast<unsigned char>(c[0]);
    if (quotes && (c == "\"" || c == "\\")) {
      out += '\\';
      out += c;
    } else if (n == 0 || ((byte < 0x20 || byte == 0x7F) && kept.find(c[0]) == kept.npos) || deceives(c)) {
      for (const char raw : c) out += fmt::format("\\x{:02X}", static_cast<unsigned char>(raw));
    } else {
      out += c;
    }
  }
  return true;
}

}  // namespace

std::string quote(std::string_view text, size_t max_bytes) {
  std::string out = "\"";
  const bool whole = append_escaped(out, text, "", /*quotes=*/true, max_bytes);
  return out + (whole ? "\"" : "\"...");
}

std::string escaped_line(std::string_view text) {
  std::string out;
  append_escaped(out, text, "", /*quotes=*/false, std::string_view::npos);
  return out;
}

std::string escaped_text(std::string_view text) {
  std::string out;
  append_escaped(out, text, "\n\t", /*quotes=*/false, std::string_view::npos);
  return out;
}

std::string escaped_html(std::string_view text) {
  std::string out;
  for (const char c : escaped_text(text)) {
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&quot;"; break;
      case '\'': out += "&#39;"; break;
      default: out += c;
    }
  }
  return out;
}

}  // namespace fovea
