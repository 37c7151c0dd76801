#include "fovea/tokenizers/template_text.h"

#include <utf8proc.h>

#include <cstring>

namespace fovea::tokenizers::jinja {
namespace {

int category(uint32_t c) { return utf8proc_category(static_cast<utf8proc_int32_t>(c)); }
bool letter_category(int k) { return k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO; }
uint32_t mapped(utf8proc_int32_t (*map)(utf8proc_int32_t), uint32_t c) {
  return static_cast<uint32_t>(map(static_cast<utf8proc_int32_t>(c)));
}

template <typename F>
std::string map_characters(std::string_view s, const F& f) {
  std::string out;
  out.reserve(s.size());
  for (size_t i = 0; i < s.size();) {
    const size_t n = character_bytes(s, i);
    if (n == 1 && static_cast<unsigned char>(s[i]) >= 0x80)
      out += s[i];
    else
      f(out, code_point(s.substr(i, n)));
    i += n;
  }
  return out;
}
void append_upper(std::string& out, uint32_t c) {
  if (c == 0xDF)
    out += "SS";  // the one letter of common text that grows
  else
    append_utf8(out, mapped(utf8proc_toupper, c));
}
void append_title(std::string& out, uint32_t c) {
  if (c == 0xDF)
    out += "Ss";
  else
    append_utf8(out, mapped(utf8proc_totitle, c));
}
void append_lower(std::string& out, uint32_t c) { append_utf8(out, mapped(utf8proc_tolower, c)); }

}  // namespace

size_t character_bytes(std::string_view s, size_t at) {
  const auto lead = static_cast<unsigned char>(s[at]);
  const size_t n = lead < 0xC2 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : lead < 0xF5 ? 4 : 1;
  if (at + n > s.size()) return 1;
  for (size_t i = 1; i < n; ++i) {
    if ((s[at + i] & 0xC0) != 0x80) return 1;
  }
  return n;
}
size_t count_characters(std::string_view s) {
  size_t count = 0;
  for (size_t i = 0; i < s.size(); i += character_bytes(s, i)) ++count;
  return count;
}
uint32_t code_point(std::string_view c) {
  const auto byte = [&](size_t i) { return static_cast<uint32_t>(static_cast<unsigned char>(c[i])); };
  switch (c.size()) {
    case 2: return (byte(0) & 31) << 6 | (byte(1) & 63);
    case 3: return (byte(0) & 15) << 12 | (byte(1) & 63) << 6 | (byte(2) & 63);
    case 4: return (byte(0) & 7) << 18 | (byte(1) & 63) << 12 | (byte(2) & 63) << 6 | (byte(3) & 63);
    default: return byte(0);
  }
}
void append_utf8(std::string& out, uint32_t c) {
  const auto tail = [&](int shift) { out += static_cast<char>(0x80 | (c >> shift & 63)); };
  if (c < 0x80) {
    out += static_cast<char>(c);
  } else if (c < 0x800) {
    out += static_cast<char>(0xC0 | c >> 6);
    tail(0);
  } else if (c < 0x10000) {
    out += static_cast<char>(0xE0 | c >> 12);
    tail(6);
    tail(0);
  } else {
    out += static_cast<char>(0xF0 | c >> 18);
    tail(12);
    tail(6);
    tail(0);
  }
}
size_t byte_of(std::string_view s, size_t n) {
  size_t i = 0;
  for (; n > 0 && i < s.size(); --n) i += character_bytes(s, i);
  return i;
}

bool is_space(uint32_t c) {
  return (c >= 9 && c <= 13) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}
bool is_letter(uint32_t c) { return letter_category(category(c)); }
bool is_digit(uint32_t c) { return category(c) == UTF8PROC_CATEGORY_ND; }
bool is_upper(uint32_t c) { return category(c) == UTF8PROC_CATEGORY_LU; }
bool is_lower(uint32_t c) { return category(c) == UTF8PROC_CATEGORY_LL; }
bool is_printable(uint32_t c) {
  const int k = category(c);
  return c == ' ' || (k != UTF8PROC_CATEGORY_CN && k != UTF8PROC_CATEGORY_CC && k != UTF8PROC_CATEGORY_CF &&
                      k != UTF8PROC_CATEGORY_CS && k != UTF8PROC_CATEGORY_CO && k != UTF8PROC_CATEGORY_ZL &&
                      k != UTF8PROC_CATEGORY_ZP && k != UTF8PROC_CATEGORY_ZS);
}

std::string upper(std::string_view s) { return map_characters(s, append_upper); }
std::string lower(std::string_view s) { return map_characters(s, append_lower); }
std::string title(std::string_view s) {
  bool inside = false;
  return map_characters(s, [&](std::string& out, uint32_t c) {
    if (inside)
      append_lower(out, c);
    else
      append_title(out, c);
    const int k = category(c);
    inside = k == UTF8PROC_CATEGORY_LU || k == UTF8PROC_CATEGORY_LL || k == UTF8PROC_CATEGORY_LT;
  });
}
std::string capitalize(std::string_view s) {
  bool first = true;
  return map_characters(s, [&](std::string& out, uint32_t c) {
    if (first)
      append_title(out, c);
    else
      append_lower(out, c);
    first = false;
  });
}

std::string_view strip(std::string_view s, const std::string* characters, bool left, bool right) {
  const auto goes = [&](std::string_view c) {
    if (!characters) return (c.size() > 1 || static_cast<unsigned char>(c[0]) < 0x80) && is_space(code_point(c));
    for (size_t i = 0; i < characters->size();) {
      const size_t n = character_bytes(*characters, i);
      if (characters->compare(i, n, c) == 0) return true;
      i += n;
    }
    return false;
  };
  size_t begin = 0, end = s.size();
  while (left && begin < end) {
    const size_t n = character_bytes(s, begin);
    if (!goes(s.substr(begin, n))) break;
    begin += n;
  }
  while (right && end > begin) {
    size_t n = 1;
    while (n < 4 && n < end - begin && (s[end - n] & 0xC0) == 0x80) ++n;
    if (character_bytes(s.substr(0, end), end - n) != n) n = 1;
    if (!goes(s.substr(end - n, n))) break;
    end -= n;
  }
  return s.substr(begin, end - begin);
}

size_t find_text(std::string_view s, std::string_view wanted, size_t from) {
  if (from > s.size()) return std::string::npos;
  if (wanted.empty()) return from;
  const void* at = memmem(s.data() + from, s.size() - from, wanted.data(), wanted.size());
  return at ? static_cast<size_t>(static_cast<const char*>(at) - s.data()) : std::string::npos;
}

std::vector<std::string_view> split_lines(std::string_view s, bool keep_ends) {
  std::vector<std::string_view> out;
  size_t start = 0;
  for (size_t i = 0; i < s.size();) {
    const size_t n = character_bytes(s, i);
    const uint32_t c = n == 1 && static_cast<unsigned char>(s[i]) >= 0x80 ? 0 : code_point(s.substr(i, n));
    size_t end = i + n;
    const bool ends = (c >= 10 && c <= 13) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 || c == 0x2029;
    if (c == 13 && end < s.size() && s[end] == '\n') ++end;
    if (ends) {
      out.push_back(s.substr(start, (keep_ends ? end : i) - start));
      start = end;
    }
    i = end;
  }
  if (start < s.size()) out.push_back(s.substr(start));
  return out;
}

}  // namespace fovea::tokenizers::jinja
