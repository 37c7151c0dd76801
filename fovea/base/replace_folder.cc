#include "fovea/base/replace_folder.h"

#include <unistd.h>  // getpid

#include <cerrno>
#include <filesystem>

#include "fovea/base/bytes.h"
#include "fovea/base/file.h"

namespace fovea {
namespace {

namespace fs = std::filesystem;

struct Cleared {
  fs::path path;
  ~Cleared() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
};

}  // namespace

Status replace_folder(const std::string& path, OldFiles old_files,
                      const std::function<Status(const std::string& folder)>& write) {
  if (path.empty()) return make_error(ErrorCode::kUsage, "the name of the folder is empty");
  std::string to = path;
  while (to.size() > 1 && to.ends_with('/')) to.pop_back();
  const std::string name = quote(path, 4096);
  std::error_code error;
  const auto status = fs::status(to, error);
  const bool had = fs::exists(status);
  if (had && !fs::is_directory(status)) return make_error(ErrorCode::kUsage, "{}: is there, and is no folder", name);
  const fs::path fresh = fmt::format("{}.part-{}", to, getpid()), old = fmt::format("{}.old-{}", to, getpid());
  fs::remove_all(fresh, error);  // of a process that was killed and had this number
  if (!fs::create_directory(fresh, error)) return file_error(path, "make", error ? error.value() : EEXIST);
  const Cleared cleared{fresh};
  FOVEA_RETURN_IF_ERROR(write(fresh.string()));
  if (had && old_files == OldFiles::kKept) {
    for (const auto& entry : fs::directory_iterator(to, error)) {
      if (entry.is_directory(error) || !fs::exists(fresh / entry.path().filename(), error))
        return make_error(ErrorCode::kUsage, "{}: holds {} besides a model; name a folder that is not there", name,
                          quote(entry.path().filename().string(), 4096));
    }
  }
  if (had) fs::rename(to, old, error);
  if (!error) fs::rename(fresh, to, error);
  if (error) {
    std::error_code ignored;
    if (had && !fs::exists(to, ignored)) fs::rename(old, to, ignored);
    return make_error(ErrorCode::kIo, "{}: cannot be put in place: {}", name, error.message());
  }
  if (had) fs::remove_all(old, error);
  return {};
}

}  // namespace fovea
