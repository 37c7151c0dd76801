// A folder that appears when it is whole.
#pragma once

#include <functional>
#include <string>

#include "fovea/base/result.h"

namespace fovea {

enum class OldFiles {
  kKept,  // a folder with files that are not written anew is refused
  kLost,
};
// Makes a folder beside `path`, has `write` fill it, and puts it there, in place of one that was there before. Without
// success nothing is left of it, and the old one is as it was. kUsage for a path that is no folder, kNotFound without
// the folder around it.
Status replace_folder(const std::string& path, OldFiles old_files,
                      const std::function<Status(const std::string& folder)>& write);

}  // namespace fovea
