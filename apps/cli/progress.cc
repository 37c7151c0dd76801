#include "apps/cli/progress.h"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <string_view>

#include "apps/cli/command.h"
#include "fovea/base/bytes.h"

namespace fovea::cli {

using namespace std::chrono_literals;

Progress::Progress(std::string label, uint64_t total, std::string unit, double scale, bool quiet)
    : label_(std::move(label)),
      unit_(std::move(unit)),
      total_(total),
      scale_(scale),
      quiet_(quiet),
      start_(std::chrono::steady_clock::now()) {
  const char* term = std::getenv("TERM");
  bar_ = isatty(STDERR_FILENO) && term && std::string_view(term) != "dumb";
  if (!bar_) last_ = start_;  // what takes less than five seconds needs no line
}

void Progress::update(uint64_t done) {
  if (quiet_) return;
  const auto now = std::chrono::steady_clock::now();
  const bool finished = total_ > 0 && done >= total_;
  // Off a terminal every line stays: one in five seconds is enough for a log.
  if (now - last_ < (bar_ ? 100ms : 5000ms) && !(finished && bar_)) return;
  last_ = now;
  const double seconds = std::chrono::duration<double>(now - start_).count();
  const double rate = seconds > 0.5 ? static_cast<double>(done) / scale_ / seconds : 0;
  std::string line = label_ + ": ";
  if (total_ > 0) {
    line += fmt::format("{:.0f} of {:.0f} {}", static_cast<double>(done) / scale_, static_cast<double>(total_) / scale_,
                        unit_);
  } else {
    line += fmt::format("{:.0f} {}", static_cast<double>(done) / scale_, unit_);
  }
  if (rate > 0) line += fmt::format(", {:.1f} {}/s", rate, unit_);
  if (!bar_) {
    tell_line(line);
    return;
  }
  constexpr uint64_t kWidth = 24;
  if (total_ > 0) {
    const auto filled = static_cast<size_t>(std::min(done, total_) * kWidth / total_);
    line = fmt::format("[{}{}] {}", std::string(filled, '#'), std::string(kWidth - filled, '.'), line);
  }
  to_stderr("\r\x1b[K" + escaped_line(line));
  drawn_ = true;
}

void Progress::clear() {
  if (drawn_) to_stderr("\r\x1b[K");
  drawn_ = false;
}

}  // namespace fovea::cli
