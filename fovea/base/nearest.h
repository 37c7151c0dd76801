// What did the user mean? For messages about an unknown name.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace fovea {

// Insertions, deletions, substitutions and swaps of neighbours. A letter is itself in either case, and '-' is '_'.
size_t edit_distance(std::string_view a, std::string_view b);

// At most `n` of `candidates`, the most similar first; equally similar ones keep their order. What begins with the name
// is as similar as what has one other letter.
std::vector<std::string> nearest_names(std::string_view name, const std::vector<std::string>& candidates, size_t n = 3);

// The nearest, if it is near enough to be what was meant.
std::optional<std::string> meant_name(std::string_view name, const std::vector<std::string>& candidates);

}  // namespace fovea
