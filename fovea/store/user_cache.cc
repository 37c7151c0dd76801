#include "fovea/store/user_cache.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <string_view>

#include "fovea/base/bytes.h"
#include "fovea/base/environment.h"
#include "fovea/base/file.h"
#include "fovea/base/log.h"

namespace fovea::store {
namespace {

namespace fs = std::filesystem;

// What is remembered, but for the hash: a file with the same text has the same bytes.
std::string entry_text(const FileIdentity& identity, const std::string& path) {
  return fmt::format("device {} inode {} bytes {} modified {} changed {}\n{}\n", identity.device, identity.inode,
                     identity.bytes, identity.modified_ns, identity.changed_ns, path);
}

bool is_hash(std::string_view text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

}  // namespace

std::string user_cache_dir() {
  if (const std::string dir = environment("XDG_CACHE_HOME"); dir.starts_with("/")) return dir + "/fovea";
  if (const std::string home = environment("HOME"); !home.empty()) return home + "/.cache/fovea";
  return "";
}

Status make_private_folder(const std::string& path) {
  const auto failed = [&](const std::string& why) {
    return make_error(ErrorCode::kIo, "cannot make the folder {}: {}", quote(path, 4096), why);
  };
  std::error_code error;
  if (fs::is_directory(path, error)) return {};
  const fs::path parent = fs::path(path).parent_path();
  if (!parent.empty()) fs::create_directories(parent, error);
  if (error) return failed(error.message());
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) return failed(std::strerror(errno));
  return {};
}

std::string why_not_trusted(const std::string& path) {
  struct stat info {};
  if (stat(path.c_str(), &info) != 0) return "";  // nothing is there that could be believed
  if (info.st_uid != geteuid()) return "it belongs to another user";
  return (info.st_mode & S_IWOTH) != 0 ? "everyone may write into it" : "";
}

Result<std::string> cached_sha256(const std::string& path, const HashCacheOptions& options) {
  std::error_code error;
  const std::string real = fs::canonical(path, error).string();
  if (options.dir.empty() || error || !why_not_trusted(options.dir).empty())
    return sha256_of_file(path);  // which says why, if there is no such file
  FOVEA_ASSIGN_OR_RETURN(const FileIdentity before, identity_of(real));
  const std::string entry = entry_text(before, real);
  const std::string kept = fmt::format("{}/{}", options.dir, sha256_of(std::as_bytes(std::span(real))).substr(0, 32));
  if (const auto text = read_file(kept, uint64_t{1} << 16)) {
    const size_t hash_end = text->find('\n');
    if (hash_end != std::string::npos && text->substr(hash_end + 1) == entry && is_hash(text->substr(0, hash_end)))
      return text->substr(0, hash_end);
  }
  const int64_t start = std::chrono::nanoseconds(std::chrono::system_clock::now().time_since_epoch()).count();
  FOVEA_ASSIGN_OR_RETURN(std::string hash, sha256_of_file(real));
  const auto after = identity_of(real);
  if (!after || !(*after == before))
    return make_error(ErrorCode::kIo, "{}: the file was changed while it was read", quote(path, 4096));
  if (std::max(before.modified_ns, before.changed_ns) > start - options.settle.count()) return hash;
  Status written = make_private_folder(options.dir);
  if (written) written = write_file_atomic(kept, hash + "\n" + entry, WriteTo::kOwnFile);
  if (!written) log_debug("the hash of {} is not kept: {}", quote(path, 4096), written.error().message);
  return hash;
}

Result<std::string> cached_sha256(const std::string& path) {
  const std::string dir = user_cache_dir();
  return cached_sha256(path, {.dir = dir.empty() ? "" : dir + "/sha256"});
}

}  // namespace fovea::store
