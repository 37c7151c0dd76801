#include "fovea/base/file_use.h"

#include <map>
#include <mutex>
#include <set>
#include <utility>

#include "fovea/base/bytes.h"

namespace fovea {
namespace {

using Place = std::pair<uint64_t, uint64_t>;  // what stays while a file grows
Place place_of(const FileIdentity& file) { return {file.device, file.inode}; }

struct Uses {
  std::mutex mutex;
  std::multiset<Place> read;
  std::map<std::string, Place> replaced;
};
Uses& uses() {
  static auto* all = new Uses;  // never destroyed: files may be closed at exit
  return *all;
}

}  // namespace

Status begin_reading(const FileIdentity& file, const std::string& path) {
  Uses& all = uses();
  const std::lock_guard lock(all.mutex);
  for (const auto& [key, place] : all.replaced) {
    if (place == place_of(file))
      return make_error(ErrorCode::kUsage, "{}: is also the file to be written; name another one for what comes out",
                        quote(path, 4096));
  }
  all.read.insert(place_of(file));
  return {};
}

void end_reading(const FileIdentity& file) {
  Uses& all = uses();
  const std::lock_guard lock(all.mutex);
  if (const auto it = all.read.find(place_of(file)); it != all.read.end()) all.read.erase(it);
}

Status begin_replacing(const std::string& key, const FileIdentity& file, const std::string& path) {
  Uses& all = uses();
  const std::lock_guard lock(all.mutex);
  if (all.read.contains(place_of(file)))
    return make_error(ErrorCode::kUsage, "{}: is being read; name another file to write", quote(path, 4096));
  all.replaced.emplace(key, place_of(file));
  return {};
}

void end_replacing(const std::string& key) {
  Uses& all = uses();
  const std::lock_guard lock(all.mutex);
  all.replaced.erase(key);
}

}  // namespace fovea
