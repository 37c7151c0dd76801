// UTF-8 read strictly: overlong forms, surrogates and numbers past U+10FFFF are invalid.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace fovea {

struct CodePoint {
  uint32_t value = 0;
  uint32_t bytes = 0;  // 0: no valid character starts here
};

inline CodePoint code_point_at(const char* p, const char* end) {
  const auto at = [p](int i) { return static_cast<uint32_t>(static_cast<unsigned char>(p[i])); };
  const auto continues = [&](int i) { return p + i < end && (at(i) & 0xC0) == 0x80; };
  if (p == end) return {};
  const uint32_t lead = at(0);
  if (lead < 0x80) return {lead, 1};
  if (lead < 0xC2 || lead > 0xF4 || !continues(1)) return {};
  if (lead < 0xE0) return {(lead & 0x1F) << 6 | (at(1) & 0x3F), 2};
  if (!continues(2)) return {};
  if (lead < 0xF0) {
    const uint32_t value = (lead & 0xF) << 12 | (at(1) & 0x3F) << 6 | (at(2) & 0x3F);
    if (value < 0x800 || (value >= 0xD800 && value <= 0xDFFF)) return {};
    return {value, 3};
  }
  if (!continues(3)) return {};
  const uint32_t value = (lead & 7) << 18 | (at(1) & 0x3F) << 12 | (at(2) & 0x3F) << 6 | (at(3) & 0x3F);
  if (value < 0x10000 || value > 0x10FFFF) return {};
  return {value, 4};
}

void append_utf8(std::string& out, uint32_t code_point);  // precondition: a Unicode scalar value
bool is_utf8(std::string_view text);
// Invalid bytes as U+FFFD, one for each longest beginning of a character, as browsers and Python do.
std::string replace_invalid_utf8(std::string_view text);
// Bytes at the end of `text` that may be the beginning of a character (0 to 3).
size_t incomplete_tail(std::string_view text);

}  // namespace fovea
