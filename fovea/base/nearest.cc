#include "fovea/base/nearest.h"

#include <algorithm>
#include <numeric>

namespace fovea {

namespace {

char folded(char c) {
  if (c == '-') return '_';
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

// Two letters or fewer begin too many names.
bool begins(std::string_view name, std::string_view candidate) {
  while (name.starts_with('-') && candidate.starts_with('-')) name.remove_prefix(1), candidate.remove_prefix(1);
  return name.size() > 2 && name.size() < candidate.size() &&
         std::equal(name.begin(), name.end(), candidate.begin(), [](char a, char b) { return folded(a) == folded(b); });
}

}  // namespace

size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> before(b.size() + 1), last(b.size() + 1), row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    before.swap(last);
    last.swap(row);
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const char one = folded(a[i - 1]), other = folded(b[j - 1]);
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + (one != other)});
      if (i > 1 && j > 1 && one == folded(b[j - 2]) && folded(a[i - 2]) == other)
        row[j] = std::min(row[j], before[j - 2] + 1);
    }
  }
  return row[b.size()];
}

std::vector<std::string> nearest_names(std::string_view name, const std::vector<std::string>& candidates, size_t n) {
  name = name.substr(0, 256);  // the distance is quadratic, and no name is that long
  std::vector<size_t> distances, order(candidates.size());
  for (const std::string& candidate : candidates)
    distances.push_back(begins(name, candidate) ? 1 : edit_distance(name, candidate));
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return distances[a] < distances[b]; });
  std::vector<std::string> out;
  for (size_t i = 0; i < std::min(n, order.size()); ++i) out.push_back(candidates[order[i]]);
  return out;
}

std::optional<std::string> meant_name(std::string_view name, const std::vector<std::string>& candidates) {
  auto nearest = nearest_names(name, candidates, 1);
  if (nearest.empty()) return std::nullopt;
  if (!begins(name, nearest[0]) && edit_distance(name.substr(0, 256), nearest[0]) > name.size() / 2 + 1)
    return std::nullopt;
  return std::move(nearest[0]);
}

}  // namespace fovea
