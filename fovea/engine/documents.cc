#include "fovea/engine/documents.h"

#include <glob.h>

#include <algorithm>
#include <filesystem>
#include <set>
#include <utility>

#include "fovea/base/bytes.h"

namespace fovea::engine {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> matches_of(const std::string& pattern) {
  std::vector<std::string> out;
  glob_t found{};
  if (glob(pattern.c_str(), GLOB_MARK, nullptr, &found) == 0) {
    for (size_t i = 0; i < found.gl_pathc; ++i) out.emplace_back(found.gl_pathv[i]);
  }
  globfree(&found);
  // By bytes, whatever the locale.
  std::sort(out.begin(), out.end());
  return out;
}

Result<std::vector<std::string>> files_in(const std::string& folder, std::vector<std::string>& skipped) {
  std::error_code error;
  std::vector<std::string> out;
  const std::string prefix = folder.ends_with('/') ? folder : folder + "/";
  for (auto it = fs::directory_iterator(folder, error); !error && it != fs::directory_iterator(); it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (name.starts_with('.')) continue;
    std::error_code ignored;
    if (it->is_directory(ignored)) {
      skipped.push_back(fmt::format("{}: a folder in a folder is not read", quote(prefix + name, 4096)));
    } else {
      out.push_back(prefix + name);
    }
  }
  if (error) {
    const bool denied = error == std::errc::permission_denied;
    return make_error(denied ? ErrorCode::kPermission : ErrorCode::kIo, "{}: {}", quote(folder, 4096), error.message());
  }
  std::sort(out.begin(), out.end());
  std::sort(skipped.begin(), skipped.end());
  return out;
}

}  // namespace

Result<Documents> read_documents(std::span<const std::string> names) {
  if (std::count(names.begin(), names.end(), "-") > 1)
    return make_error(ErrorCode::kUsage, "--file -: standard input can be read once");
  Documents out;
  std::set<std::string> seen;
  const auto count = [&]() -> Status {
    if (out.read.size() <= Documents::kMost) return {};
    return make_error(ErrorCode::kLimit, "more than {} files were named", Documents::kMost);
  };
  // Files that were not named one by one.
  const auto add_all = [&](const std::vector<std::string>& files, const std::string& name) -> Status {
    const size_t before = out.read.size();
    bool any = false;
    for (const std::string& file : files) {
      any |= seen.contains(file);
      if (!seen.insert(file).second) continue;
      // Nothing that would wait: a FIFO, a device.
      std::error_code ignored;
      if (!fs::is_regular_file(file, ignored)) {
        out.skipped.push_back(fmt::format("{}: not a file", quote(file, 4096)));
        continue;
      }
      auto document = read_document(file);
      if (document) {
        out.read.push_back(std::move(*document));
        FOVEA_RETURN_IF_ERROR(count());
      } else if (document.error().code == ErrorCode::kData) {
        out.skipped.push_back(document.error().message);
      } else {
        return document.error();
      }
    }
    if (out.read.size() == before && !any) {
      return make_error(ErrorCode::kData, "{}: there is no text {}{}", quote(name, 4096),
                        files.empty() ? "in it" : "among its files",
                        out.skipped.empty() ? "" : fmt::format(" ({})", out.skipped.front()));
    }
    return {};
  };
  for (const std::string& name : names) {
    std::error_code ignored;
    const bool there = name == "-" || fs::exists(name, ignored);
    if (there && name != "-" && fs::is_directory(name, ignored)) {
      FOVEA_ASSIGN_OR_RETURN(const std::vector<std::string> files, files_in(name, out.skipped));
      FOVEA_RETURN_IF_ERROR(add_all(files, name));
    } else if (!there && name.find_first_of("*?[") != std::string::npos) {
      std::vector<std::string> files;
      for (const std::string& match : matches_of(name)) {
        if (match.ends_with('/')) {
          out.skipped.push_back(fmt::format("{}: a folder", quote(match, 4096)));
        } else {
          files.push_back(match);
        }
      }
      if (files.empty()) return make_error(ErrorCode::kNotFound, "{}: no file has such a name", quote(name, 4096));
      FOVEA_RETURN_IF_ERROR(add_all(files, name));
    } else {
      FOVEA_ASSIGN_OR_RETURN(Document document, read_document(name));
      seen.insert(name);
      out.read.push_back(std::move(document));
      FOVEA_RETURN_IF_ERROR(count());
    }
  }
  return out;
}

}  // namespace fovea::engine
