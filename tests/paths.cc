#include "fovea/base/testing/paths.h"

namespace fovea {

std::string source_dir() { return FOVEA_SOURCE_DIR; }
std::string build_dir() { return FOVEA_BINARY_DIR; }

}  // namespace fovea
