#include "fovea/base/log.h"

#include <mutex>
#include <utility>

namespace fovea {
namespace {
std::mutex g_log_mutex;
LogSink g_sink;
}  // namespace

void set_log_sink(LogSink sink) {
  std::lock_guard lock(g_log_mutex);
  g_sink = std::move(sink);
}

void log_line(LogLevel level, std::string_view text) {
  std::lock_guard lock(g_log_mutex);
  if (g_sink) g_sink(level, text);
}

}  // namespace fovea
