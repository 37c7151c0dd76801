// What can be made again and is kept for the next run: $XDG_CACHE_HOME/fovea, else ~/.cache/fovea.
#pragma once

#include <chrono>
#include <string>

#include "fovea/base/result.h"

namespace fovea::store {

std::string user_cache_dir();  // need not exist; empty if the environment names none
// With its parents; others than its owner cannot read what is in it.
Status make_private_folder(const std::string& path);
// Why what lies in this folder cannot be believed: it belongs to another user, or everyone may write into it. Empty if
// it can.
std::string why_not_trusted(const std::string& path);

// SHA-256 of a file, remembered for as long as the file stays what it is: path, device, inode, size, and the times
// of the last change of its bytes and of its entry, in nanoseconds. The second of these no program can set, so that
// a file with an old date put in its place is noticed. A file changed less than `settle` ago is not remembered: it
// could change again within one tick of the clock that stamps it.
struct HashCacheOptions {
  std::string dir;  // empty: nothing is remembered
  std::chrono::nanoseconds settle = std::chrono::seconds(2);
};
Result<std::string> cached_sha256(const std::string& path, const HashCacheOptions& options);
Result<std::string> cached_sha256(const std::string& path);  // in the folder sha256 of the user's cache

}  // namespace fovea::store
