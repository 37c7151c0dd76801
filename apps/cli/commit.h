// Which commit of the sources this program was built from.
#pragma once

#include <string>

namespace fovea::cli {

std::string commit();  // "5333203", with "-dirty" where files were changed; "unknown" outside of a repository

}  // namespace fovea::cli
