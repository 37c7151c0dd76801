// Variables of the environment.
#pragma once

#include <cstdlib>
#include <string>

namespace fovea {

inline std::string environment(const char* name) {  // empty if it is not set
  const char* value = std::getenv(name);
  return value ? value : "";
}

}  // namespace fovea
