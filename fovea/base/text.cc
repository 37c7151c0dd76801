#include "fovea/base/text.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace fovea {

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (size_t begin = 0;;) {
    const size_t end = text.find(separator, begin);
    if (end == std::string_view::npos) {
      parts.push_back(text.substr(begin));
      return parts;
    }
    parts.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
}

size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t above = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1])});
      diagonal = above;
    }
  }
  return row[b.size()];
}

std::vector<std::string> nearest(std::string_view text, const std::vector<std::string_view>& candidates, size_t n) {
  std::vector<std::pair<size_t, std::string>> ranked;
  const std::string_view head = text.substr(0, 200);
  for (std::string_view candidate : candidates) ranked.emplace_back(edit_distance(head, candidate), candidate);
  std::sort(ranked.begin(), ranked.end());
  std::vector<std::string> best;
  for (size_t i = 0; i < std::min(n, ranked.size()); ++i) best.push_back(std::move(ranked[i].second));
  return best;
}

std::vector<std::string> nearest(std::string_view text, const std::vector<std::string>& candidates, size_t n) {
  return nearest(text, std::vector<std::string_view>(candidates.begin(), candidates.end()), n);
}

}  // namespace fovea
