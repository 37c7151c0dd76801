#include "papers/support/checks.h"

#include <fmt/format.h>

#include <algorithm>

#include "fovea/base/bytes.h"
#include "fovea/base/nearest.h"
#include "fovea/base/registry.h"

namespace fovea::papers {
namespace {

std::map<std::string, Paper>& registry() {
  static std::map<std::string, Paper> all;
  return all;
}

}  // namespace

std::string_view name_of(Kind kind) {
  switch (kind) {
    case Kind::kExact: return "exact";
    case Kind::kShape: return "shape";
    case Kind::kControl: return "control";
  }
  return "?";
}

const std::map<std::string, Paper>& papers() { return registry(); }

bool register_paper(Paper paper) {
  const std::string slug = paper.slug;
  return add_once(registry(), "papers", slug, std::move(paper));
}

Result<const Paper*> find_paper(std::string_view slug) {
  std::string name(slug);
  std::replace(name.begin(), name.end(), '_', '-');
  if (const auto it = registry().find(name); it != registry().end()) return &it->second;
  std::vector<std::string> known;
  for (const auto& [each, paper] : registry()) known.push_back(each);
  return make_error(ErrorCode::kUsage, "no reproduction is called {}; the nearest: {} (fovea reproduce lists all)",
                    quote(slug, 80), fmt::join(nearest_names(name, known), ", "));
}

}  // namespace fovea::papers
