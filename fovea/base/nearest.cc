#include "fovea/base/nearest.h"

#include <algorithm>
#include <numeric>

namespace fovea {

namespace {

char folded(char c) {
  if (c == '-') return '_';
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

}  // namespace

size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t above = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, diagonal + (folded(a[i - 1]) != folded(b[j - 1]))});
      diagonal = above;
    }
  }
  return row[b.size()];
}

std::vector<std::string> nearest_names(std::string_view name, const std::vector<std::string>& candidates, size_t n) {
  name = name.substr(0, 256);  // the distance is quadratic, and no name is that long
  std::vector<size_t> distances, order(candidates.size());
  for (const std::string& candidate : candidates) distances.push_back(edit_distance(name, candidate));
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return distances[a] < distances[b]; });
  std::vector<std::string> out;
  for (size_t i = 0; i < std::min(n, order.size()); ++i) out.push_back(candidates[order[i]]);
  return out;
}

}  // namespace fovea
