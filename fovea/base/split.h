// Lists as a user writes them: "512,1024".
#pragma once

#include <string_view>
#include <vector>

namespace fovea {

// Views of what stands between separators, empty parts included; one part if there is none.
inline std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (size_t begin = 0;;) {
    const size_t end = text.find(separator, begin);
    parts.push_back(text.substr(begin, end - begin));
    if (end == std::string_view::npos) return parts;
    begin = end + 1;
  }
}

}  // namespace fovea
