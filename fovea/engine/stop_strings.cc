#include "fovea/engine/stop_strings.h"

#include <algorithm>
#include <utility>

namespace fovea::engine {

Status check_stop_strings(const std::vector<std::string>& strings) {
  if (strings.size() > StopStrings::kMaxStrings) {
    return make_error(ErrorCode::kUsage, "stop has {} strings; at most {} are allowed", strings.size(),
                      StopStrings::kMaxStrings);
  }
  for (const std::string& text : strings) {
    if (text.empty() || text.size() > StopStrings::kMaxBytes) {
      return make_error(ErrorCode::kUsage, "stop: a string of {} bytes; 1 to {} are allowed", text.size(),
                        StopStrings::kMaxBytes);
    }
  }
  return {};
}

// All but the longest end of held_ that begins a stop string.
size_t StopStrings::sure_bytes() const {
  size_t hold = 0;
  for (const std::string& stop : strings_) {
    for (size_t n = std::min(stop.size() - 1, held_.size()); n > hold; --n) {
      if (std::string_view(held_).ends_with(std::string_view(stop).substr(0, n))) hold = n;
    }
  }
  size_t sure = held_.size() - hold;
  const auto is_continuation = [&](size_t i) { return (static_cast<unsigned char>(held_[i]) & 0xC0) == 0x80; };
  while (sure > 0 && sure < held_.size() && is_continuation(sure)) --sure;
  return sure;
}

std::string StopStrings::push(std::string_view text) {
  if (found_) return "";
  held_ += text;
  size_t at = std::string::npos, end = std::string::npos;
  for (const std::string& stop : strings_) {
    const size_t i = held_.find(stop);
    if (i == std::string::npos) continue;
    // The one that is complete first; of those the longest, which began first.
    if (i + stop.size() < end || (i + stop.size() == end && i < at)) at = i, end = i + stop.size();
  }
  if (at != std::string::npos) {
    found_ = true;
    return std::exchange(held_, {}).substr(0, at);
  }
  const size_t sure = sure_bytes();
  std::string out = held_.substr(0, sure);
  held_.erase(0, sure);
  return out;
}

std::string StopStrings::finish() { return std::exchange(held_, {}); }

}  // namespace fovea::engine
