// The temporary files that this process has open right now, so that a signal handler can remove them before it ends
// the process. FileWriter keeps the list.
#pragma once

#include <string>

namespace fovea {

// Called before the file is made, so that there is no moment at which it would be left. At most 64 at once, of paths
// of up to 4,095 bytes; others are not on the list.
void add_temporary_file(const std::string& path);
void forget_temporary_file(const std::string& path);
// Async-signal-safe. The process must end after it: what is on the list stays claimed.
void remove_temporary_files() noexcept;

}  // namespace fovea
