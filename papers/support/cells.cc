#include "papers/support/cells.h"

#include <sys/stat.h>

#include <chrono>
#include <optional>

#include "fovea/base/bytes.h"
#include "fovea/base/file.h"
#include "fovea/base/json.h"
#include "fovea/base/log.h"
#include "fovea/store/user_cache.h"

namespace fovea::papers {
namespace {

constexpr uint64_t kMaxBytes = uint64_t{64} << 20;

std::string text_of(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }
std::string hash_of(const std::string& text) { return sha256_of(std::as_bytes(std::span(text))); }

std::optional<CellValues> read_cell(const std::string& path, const std::string& key) {
  struct stat info {};
  if (::stat(path.c_str(), &info) == 0 && !S_ISREG(info.st_mode)) {  // reading a FIFO would wait
    log_warning("a cell is measured anew, its file is no regular file: {}", quote(path, 4096));
    return std::nullopt;
  }
  const auto file = read_json(path, kMaxBytes);
  if (!file) {
    if (file.error().code != ErrorCode::kNotFound && file.error().code != ErrorCode::kCancelled)
      log_warning("a cell is measured anew, its file is damaged: {}", file.error().message);
    return std::nullopt;
  }
  const auto part = [&](const char* name) {
    const auto it = file->is_object() ? file->find(name) : file->end();
    return file->is_object() && it != file->end() ? *it : Json();
  };
  const Json values = part("values"), seconds = part("seconds"), hash = part("sha256");
  if (text_of(part("key")) != key || !values.is_object() || !seconds.is_number() ||
      hash != Json(hash_of(text_of(values)))) {
    log_warning("a cell is measured anew, its file is damaged: {}", quote(path, 4096));
    return std::nullopt;
  }
  return CellValues{values, seconds.get<double>(), true};
}

Status write_cell(const std::string& dir, const std::string& path, const Json& key, const CellValues& cell) {
  FOVEA_RETURN_IF_ERROR(store::make_private_folder(dir));
  const Json file = {
      {"key", key}, {"seconds", cell.seconds}, {"sha256", hash_of(text_of(cell.values))}, {"values", cell.values}};
  return write_file_atomic(path, text_of(file) + "\n", WriteTo::kOwnFile);
}

}  // namespace

CellStore::CellStore(std::string dir, bool again) : dir_(std::move(dir)), again_(again) {
  const std::string why = dir_.empty() ? "" : store::why_not_trusted(dir_);
  if (why.empty()) return;
  log_warning("what is measured is not kept in {}: {}", quote(dir_, 4096), why);
  dir_.clear();
}

std::string CellStore::path_of(const Json& key) const {
  return dir_ + "/" + hash_of(text_of(key)).substr(0, 32) + ".json";
}

Result<CellValues> CellStore::get(const Json& key, const std::function<Result<Json>()>& measure) {
  const std::string text = text_of(key);
  if (const auto it = seen_.find(text); it != seen_.end()) return it->second;
  if (!dir_.empty() && !again_) {
    if (const auto kept = read_cell(path_of(key), text)) return seen_[text] = *kept;
  }
  const auto start = std::chrono::steady_clock::now();
  FOVEA_ASSIGN_OR_RETURN(const Json values, measure());
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const CellValues cell{values, seconds, false};
  if (!dir_.empty()) {
    const Status written = write_cell(dir_, path_of(key), key, cell);
    if (!written) log_warning("what was measured is not kept: {}", written.error().message);
  }
  return seen_[text] = cell;
}

}  // namespace fovea::papers
