// Which files this process reads by mapping them and which it is about to replace, so that no output takes the place
// of an input. MappedFile keeps the one list, FileWriter the other, of what a user
// named (WriteTo::kAnything).
#pragma once

#include <string>

#include "fovea/base/file.h"

namespace fovea {

// kUsage, naming the file, if the other use of it is going on. Each that succeeds is ended once.
Status begin_reading(const FileIdentity& file, const std::string& path);
void end_reading(const FileIdentity& file);
// `key`: the temporary file that will take the place of `file`.
Status begin_replacing(const std::string& key, const FileIdentity& file, const std::string& path);
void end_replacing(const std::string& key);  // does nothing for a key that never began

}  // namespace fovea
