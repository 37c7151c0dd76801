#include "fovea/base/numbers.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

namespace fovea {

bool parse_size(std::string_view text, uint64_t& bytes) {
  const size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
  uint64_t value = 0;
  if (!parse_number(text.substr(0, digits), value)) return false;
  std::string suffix(text.substr(digits));
  for (char& c : suffix) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  uint64_t unit = 1;
  if (!suffix.empty() && suffix != "b") {
    constexpr std::string_view kPrefixes = "kmgt";
    const size_t power = kPrefixes.find(suffix[0]);
    const std::string rest = suffix.substr(1);
    if (power == kPrefixes.npos || (!rest.empty() && rest != "b" && rest != "i" && rest != "ib")) return false;
    const uint64_t step = rest.starts_with("i") ? 1024 : 1000;
    for (size_t i = 0; i <= power; ++i) unit *= step;
  }
  if (value > kMaxSize / unit) return false;
  bytes = value * unit;
  return true;
}

std::string size_text(double bytes) {
  if (bytes < 1e3) return fmt::format("{:.0f} bytes", bytes);
  if (bytes < 1e6) return fmt::format("{:.1f} kB", bytes / 1e3);
  if (bytes < 1e9) return fmt::format("{:.1f} MB", bytes / 1e6);
  return fmt::format("{:.1f} GB", bytes / 1e9);
}

}  // namespace fovea
