#include "fovea/tokenizers/template/text.h"

#include <utf8proc.h>

#include <cstring>

#include "fovea/tokenizers/template/unicode.h"

namespace fovea::tokenizers::jinja {
namespace {

int category(uint32_t c) { return utf8proc_category(static_cast<utf8proc_int32_t>(c)); }
bool letter_category(int k) { return k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO; }
uint32_t mapped(utf8proc_int32_t (*map)(utf8proc_int32_t), uint32_t c) {
  return static_cast<uint32_t>(map(static_cast<utf8proc_int32_t>(c)));
}

// What starts at `i`, and its bytes; a stray byte is no character.
struct Character {
  uint32_t code = 0;
  size_t bytes = 1;
  bool stray = false;
};
Character character_at(std::string_view s, size_t i) {
  const size_t n = character_bytes(s, i);
  if (n == 1 && static_cast<unsigned char>(s[i]) >= 0x80) return {0, 1, true};
  return {code_point(s.substr(i, n)), n, false};
}

template <typename F>
Str map_characters(const Str& text, const F& f) {
  const std::string_view s = text.view();
  Str out;
  out.reserve(s.size());
  std::string piece;
  text.for_each_run(0, s.size(), [&](size_t begin, size_t end, Owner owner) {
    piece.clear();
    for (size_t i = begin; i < end;) {
      const Character c = character_at(s, i);
      if (c.stray)
        piece += s[i];
      else
        f(piece, c.code, i);
      i += c.bytes;
    }
    out.append(piece, owner);
  });
  return out;
}

bool is_cased(uint32_t c) { return is_lower(c) || is_upper(c) || category(c) == UTF8PROC_CATEGORY_LT; }
// Seen through by the rule for a sigma at the end of a word.
bool case_ignorable(uint32_t c) {
  const int k = category(c);
  return k == UTF8PROC_CATEGORY_MN || k == UTF8PROC_CATEGORY_ME || k == UTF8PROC_CATEGORY_CF ||
         k == UTF8PROC_CATEGORY_LM || k == UTF8PROC_CATEGORY_SK || inside_words(c);
}
bool ends_word(std::string_view s, size_t at) {  // the sigma there: after a letter, and none follows
  bool after_letter = false;
  for (size_t i = at; i > 0 && !after_letter;) {
    size_t n = 1;
    while (n < 4 && n < i && (s[i - n] & 0xC0) == 0x80) ++n;
    i -= n;
    const Character c = character_at(s, i);
    if (!c.stray && case_ignorable(c.code)) continue;
    after_letter = !c.stray && is_cased(c.code);
    break;
  }
  if (!after_letter) return false;
  for (size_t i = at + character_bytes(s, at); i < s.size();) {
    const Character c = character_at(s, i);
    if (c.stray || !case_ignorable(c.code)) return c.stray || !is_cased(c.code);
    i += c.bytes;
  }
  return true;
}
void append_upper(std::string& out, uint32_t c) {
  if (const FullCase* full = full_case(c))
    out += full->upper;
  else
    append_utf8(out, mapped(utf8proc_toupper, c));
}
void append_title(std::string& out, uint32_t c) {
  if (const FullCase* full = full_case(c))
    out += full->title;
  else
    append_utf8(out, mapped(utf8proc_totitle, c));
}
void append_lower(std::string& out, uint32_t c, std::string_view s, size_t at) {
  constexpr uint32_t kSigma = 0x3A3;
  if (c == kSigma)
    out += ends_word(s, at) ? "\u03C2" : "\u03C3";
  else if (const FullCase* full = full_case(c))
    out += full->lower;
  else
    append_utf8(out, mapped(utf8proc_tolower, c));
}

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
bool is_decimal(uint32_t c) { return category(c) == UTF8PROC_CATEGORY_ND; }
bool is_digit(uint32_t c) { return is_decimal(c) || other_digit(c); }
bool is_numeric(uint32_t c) {
  const int k = category(c);
  return (k >= UTF8PROC_CATEGORY_ND && k <= UTF8PROC_CATEGORY_NO) || numeric_letter(c);
}
bool is_upper(uint32_t c) { return category(c) == UTF8PROC_CATEGORY_LU || other_upper(c); }
bool is_lower(uint32_t c) { return category(c) == UTF8PROC_CATEGORY_LL || other_lower(c); }
bool starts_identifier(uint32_t c) {
  const bool letter = letter_category(category(c)) || category(c) == UTF8PROC_CATEGORY_NL;
  return (letter && !no_identifier_start(c)) || c == '_' || (c >= 0x1885 && c <= 0x1886) || c == 0x2118 || c == 0x212E;
}
bool continues_identifier(uint32_t c) {
  const int k = category(c);
  const bool part = letter_category(k) || k == UTF8PROC_CATEGORY_NL || k == UTF8PROC_CATEGORY_MN ||
                    k == UTF8PROC_CATEGORY_MC || k == UTF8PROC_CATEGORY_ND || k == UTF8PROC_CATEGORY_PC;
  return (part && !no_identifier_part(c)) || c == 0xB7 || c == 0x387 || (c >= 0x1369 && c <= 0x1371) || c == 0x19DA ||
         c == 0x2118 || c == 0x212E;
}
bool is_printable(uint32_t c) {
  const int k = category(c);
  return c == ' ' || (k != UTF8PROC_CATEGORY_CN && k != UTF8PROC_CATEGORY_CC && k != UTF8PROC_CATEGORY_CF &&
                      k != UTF8PROC_CATEGORY_CS && k != UTF8PROC_CATEGORY_CO && k != UTF8PROC_CATEGORY_ZL &&
                      k != UTF8PROC_CATEGORY_ZP && k != UTF8PROC_CATEGORY_ZS);
}

bool is_identifier(std::string_view s) {
  for (size_t i = 0; i < s.size();) {
    const Character c = character_at(s, i);
    if (c.stray || !(i ? continues_identifier(c.code) : starts_identifier(c.code))) return false;
    i += c.bytes;
  }
  return !s.empty();
}
bool is_upper_text(std::string_view s) {
  bool any = false;
  for (size_t i = 0; i < s.size();) {
    const Character c = character_at(s, i);
    if (!c.stray && (is_lower(c.code) || category(c.code) == UTF8PROC_CATEGORY_LT)) return false;
    any = any || (!c.stray && is_upper(c.code));
    i += c.bytes;
  }
  return any;
}
bool is_lower_text(std::string_view s) {
  bool any = false;
  for (size_t i = 0; i < s.size();) {
    const Character c = character_at(s, i);
    if (!c.stray && (is_upper(c.code) || category(c.code) == UTF8PROC_CATEGORY_LT)) return false;
    any = any || (!c.stray && is_lower(c.code));
    i += c.bytes;
  }
  return any;
}
bool is_title_text(std::string_view s) {
  bool any = false, inside = false;
  for (size_t i = 0; i < s.size();) {
    const Character c = character_at(s, i);
    const bool capital = !c.stray && (is_upper(c.code) || category(c.code) == UTF8PROC_CATEGORY_LT);
    const bool small = !c.stray && !capital && is_lower(c.code);
    if ((capital && inside) || (small && !inside)) return false;
    inside = capital || small;
    any = any || inside;
    i += c.bytes;
  }
  return any;
}

Str upper(const Str& s) {
  return map_characters(s, [](std::string& out, uint32_t c, size_t) { append_upper(out, c); });
}
Str lower(const Str& s) {
  return map_characters(s, [&](std::string& out, uint32_t c, size_t at) { append_lower(out, c, s.view(), at); });
}
Str title(const Str& s) {
  bool inside = false;
  return map_characters(s, [&](std::string& out, uint32_t c, size_t at) {
    if (inside)
      append_lower(out, c, s.view(), at);
    else
      append_title(out, c);
    inside = is_cased(c);
  });
}
Str capitalize(const Str& s) {
  return map_characters(s, [&](std::string& out, uint32_t c, size_t at) {
    if (at)
      append_lower(out, c, s.view(), at);
    else
      append_title(out, c);
  });
}
Str swapcase(const Str& s) {
  return map_characters(s, [&](std::string& out, uint32_t c, size_t at) {
    if (is_upper(c))
      append_lower(out, c, s.view(), at);
    else if (is_lower(c))
      append_upper(out, c);
    else
      append_utf8(out, c);
  });
}
Str casefold(const Str& s) {
  return map_characters(s, [](std::string& out, uint32_t c, size_t) {
    utf8proc_int32_t folded[8];
    int boundary = 0;
    const auto n = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c), folded, 8, UTF8PROC_CASEFOLD, &boundary);
    for (utf8proc_ssize_t i = 0; i < n && i < 8; ++i) append_utf8(out, static_cast<uint32_t>(folded[i]));
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
