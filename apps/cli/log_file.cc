#include "apps/cli/log_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <nlohmann/json.hpp>

#include "fovea/base/bytes.h"

namespace fovea::cli {
namespace {

int g_log = -1;

}  // namespace

Status open_log_file(const std::string& path) {
  if (path == "-") return make_error(ErrorCode::kUsage, "--log-file -: a file is wanted; stderr has it all anyway");
  g_log = ::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
  if (g_log >= 0) return {};
  const ErrorCode code = errno == EACCES || errno == EPERM ? ErrorCode::kPermission
                         : errno == ENOENT                 ? ErrorCode::kNotFound
                         : errno == EISDIR                 ? ErrorCode::kUsage
                                                           : ErrorCode::kIo;
  return make_error(code, "--log-file {}: {}", quote(path, 4096), std::strerror(errno));
}

void write_log_file(LogLevel level, std::string_view sentence) {
  if (g_log < 0) return;
  constexpr const char* kNames[] = {"debug", "info", "warning", "error"};
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&now, &utc);
  std::array<char, 32> time{};
  std::strftime(time.data(), time.size(), "%Y-%m-%dT%H:%M:%SZ", &utc);
  // As JSON writes a string, without its quotes: one line, whatever is in it.
  const std::string text = nlohmann::json(sentence).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  const std::string line = fmt::format("{} {}: {}\n", time.data(), kNames[static_cast<size_t>(level)],
                                       std::string_view(text).substr(1, text.size() - 2));
  // One write: lines of programs that log to one file do not mix. A log that cannot be written stops no run.
  [[maybe_unused]] const ssize_t ignored = ::write(g_log, line.data(), line.size());
}

}  // namespace fovea::cli
