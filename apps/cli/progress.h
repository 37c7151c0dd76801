// Progress of long work on stderr: a bar on a terminal, a plain line now and then elsewhere,
// nothing with --quiet.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace fovea::cli {

class Progress {
 public:
  // `unit` is what is counted: "MB", "tokens"; 0 = the total is not known. `scale` units of work
  // make one of them: Progress("fetching", bytes, "MB", 1e6, quiet).
  Progress(std::string label, uint64_t total, std::string unit, double scale, bool quiet);
  ~Progress() { clear(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  void update(uint64_t done);  // cheap: draws at most ten times a second
  void set_label(const std::string& label) { label_ = label; }
  void set_total(uint64_t total) { total_ = total; }
  void clear();  // takes the bar off the terminal

 private:
  std::string label_, unit_;
  uint64_t total_;
  double scale_;
  bool quiet_, bar_, drawn_ = false;
  std::chrono::steady_clock::time_point start_, last_{};
};

}  // namespace fovea::cli
