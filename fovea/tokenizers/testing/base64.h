// For goldens in JSON.
#pragma once

#include <string>
#include <string_view>

namespace fovea::tokenizers {

inline std::string from_base64(std::string_view text) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  uint32_t bits = 0;
  int n = 0;
  for (const char c : text) {
    const size_t digit = kDigits.find(c);
    if (digit == kDigits.npos) continue;
    bits = bits << 6 | static_cast<uint32_t>(digit);
    if ((n += 6) >= 8) out += static_cast<char>(bits >> (n -= 8) & 255);
  }
  return out;
}

}  // namespace fovea::tokenizers
