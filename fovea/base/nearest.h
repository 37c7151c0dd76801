// What did the user mean? For messages about an unknown name.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace fovea {

// Insertions, deletions, substitutions and swaps of neighbours. A letter is itself in either case, and '-' is '_'.
size_t edit_distance(std::string_view a, std::string_view b);

// At most `n` of `candidates`, the most similar first; equally similar ones keep their order.
std::vector<std::string> nearest_names(std::string_view name, const std::vector<std::string>& candidates, size_t n = 3);

}  // namespace fovea
