// Small helpers for names that users type.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace fovea {

// Parts between separators, empty ones included; an empty text has one empty part.
std::vector<std::string_view> split(std::string_view text, char separator);

size_t edit_distance(std::string_view a, std::string_view b);  // Levenshtein, bytes

// The (at most) n candidates nearest to `text`, nearest first, ties in alphabetical order.
std::vector<std::string> nearest(std::string_view text, const std::vector<std::string_view>& candidates, size_t n);
std::vector<std::string> nearest(std::string_view text, const std::vector<std::string>& candidates, size_t n);

}  // namespace fovea
