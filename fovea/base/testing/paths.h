// Where the sources and the build of these tests lie. Defined in tests/paths.cc, so that no other object knows.
#pragma once

#include <string>

namespace fovea {

std::string source_dir();
std::string build_dir();

}  // namespace fovea
