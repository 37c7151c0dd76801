// For what registers itself under a name at start: methods, families, commands.
#pragma once

#include <string>
#include <string_view>
#include <utility>

#include "fovea/base/check.h"

namespace fovea {

// Two of one name are a fault of the program, which ends at start: which of them was meant, nobody could say.
// `kind`: "attention methods". True, for the initialiser of a variable.
template <typename Map>
bool add_once(Map& registry, std::string_view kind, std::string_view name, typename Map::mapped_type value) {
  const bool is_new = registry.emplace(std::string(name), std::move(value)).second;
  FOVEA_CHECK(is_new, "two {} are called {}", kind, name);
  return true;
}

}  // namespace fovea
