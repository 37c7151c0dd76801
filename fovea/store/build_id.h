// What tells one build of this program from another, to the bit: the build id that the linker wrote into it.
#pragma once

#include <string>

namespace fovea::store {

std::string build_id();  // lower-case hex; empty if the program was linked without one

}  // namespace fovea::store
