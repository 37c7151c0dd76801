#include "fovea/base/utf8.h"

#include <algorithm>

namespace fovea {
namespace {

// How many bytes at `p`, where no valid character starts, are the beginning of one (at least 1).
size_t broken_bytes(const char* p, const char* end) {
  const auto at = [p](int i) { return static_cast<unsigned char>(p[i]); };
  const unsigned char lead = at(0);
  if (lead < 0xE0 || lead > 0xF4 || end - p < 2) return 1;
  const unsigned char low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  const unsigned char high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  if (at(1) < low || at(1) > high) return 1;
  // Of three-byte characters the third is wrong or missing; of four, perhaps only the fourth.
  return lead >= 0xF0 && end - p > 2 && (at(2) & 0xC0) == 0x80 ? 3 : 2;
}

}  // namespace

void append_utf8(std::string& out, uint32_t c) {
  const auto put = [&out](uint32_t byte) { out += static_cast<char>(byte); };
  if (c < 0x80) return put(c);
  if (c < 0x800) {
    put(0xC0 | c >> 6);
  } else if (c < 0x10000) {
    put(0xE0 | c >> 12);
    put(0x80 | (c >> 6 & 0x3F));
  } else {
    put(0xF0 | c >> 18);
    put(0x80 | (c >> 12 & 0x3F));
    put(0x80 | (c >> 6 & 0x3F));
  }
  put(0x80 | (c & 0x3F));
}

bool is_utf8(std::string_view text) {
  const char *p = text.data(), *end = p + text.size();
  while (p < end) {
    const uint32_t n = code_point_at(p, end).bytes;
    if (n == 0) return false;
    p += n;
  }
  return true;
}

std::string replace_invalid_utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  const char *p = text.data(), *end = p + text.size();
  while (p < end) {
    if (const uint32_t n = code_point_at(p, end).bytes) {
      out.append(p, n);
      p += n;
    } else {
      out += "\xEF\xBF\xBD";
      p += broken_bytes(p, end);
    }
  }
  return out;
}

size_t incomplete_tail(std::string_view text) {
  const char* end = text.data() + text.size();
  for (size_t n = std::min<size_t>(3, text.size()); n > 0; --n) {
    const char* p = end - n;
    const auto lead = static_cast<unsigned char>(*p);
    const size_t wanted = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
    if (lead >= 0xC2 && lead <= 0xF4 && n < wanted && broken_bytes(p, end) == n) return n;
  }
  return 0;
}

}  // namespace fovea
