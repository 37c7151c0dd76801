// Numbers as a user writes them, read the same way everywhere: decimal digits, a '-' where it may be negative, and
// nothing before or after. No locale, no octal, no hexadecimal.
#pragma once

#include <charconv>
#include <cstdint>
#include <string>
#include <string_view>
#include <system_error>

namespace fovea {

// False, and `value` unchanged, if the whole text is not a number that T holds.
template <typename T>
bool parse_number(std::string_view text, T& value) {
  T parsed{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), parsed);
  if (error != std::errc() || end != text.data() + text.size()) return false;
  value = parsed;
  return true;
}

// Bytes: "4096", "500MB", "2G" (powers of 1000), "64KiB", "2Gi" (powers of 1024), in either case. Whole numbers only.
inline constexpr uint64_t kMaxSize = INT64_MAX;
bool parse_size(std::string_view text, uint64_t& bytes);  // false over kMaxSize too

std::string size_text(double bytes);  // for people: "512 bytes", "1.5 kB", "80.0 MB", "2.0 GB"

}  // namespace fovea
