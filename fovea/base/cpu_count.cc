#include "fovea/base/cpu_count.h"

#include <fmt/core.h>
#include <sched.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <fstream>
#include <optional>
#include <set>
#include <string_view>

namespace fovea {
namespace {

// /sys and /proc have no honest file sizes, so these are not read with read_file.
std::optional<std::string> first_line(const std::string& path) {
  std::ifstream in(path);
  std::string line;
  if (!std::getline(in, line)) return std::nullopt;
  return line;
}

std::optional<double> as_number(std::string_view text) {
  try {
    return std::stod(std::string(text));
  } catch (const std::exception&) {
    return std::nullopt;  // "max"
  }
}

// Version 2: "QUOTA PERIOD" in cpu.max. Version 1: two files, and a quota of -1 for none.
std::optional<double> cpus_allowed_by(const std::string& folder) {
  std::optional<double> quota, period;
  if (const auto line = first_line(folder + "/cpu.max")) {
    const size_t space = line->find(' ');
    if (space == std::string::npos) return std::nullopt;
    quota = as_number(line->substr(0, space));
    period = as_number(line->substr(space + 1));
  } else {
    quota = as_number(first_line(folder + "/cpu.cfs_quota_us").value_or(""));
    period = as_number(first_line(folder + "/cpu.cfs_period_us").value_or(""));
  }
  if (!quota || !period || *quota <= 0 || *period <= 0) return std::nullopt;
  return *quota / *period;
}

// The least quota of this process's control group and of those around it.
std::optional<double> cgroup_cpus(const std::string& root) {
  std::optional<double> least;
  std::ifstream groups(root + "/proc/self/cgroup");  // lines of "id:controllers:path"
  for (std::string line; std::getline(groups, line);) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    const bool unified = controllers == ",,";
    if (!unified && controllers.find(",cpu,") == std::string::npos) continue;
    const std::string top = root + (unified ? "/sys/fs/cgroup" : "/sys/fs/cgroup/cpu");
    for (std::string path = line.substr(second + 1);;) {
      if (const auto cpus = cpus_allowed_by(top + path)) least = std::min(*cpus, least.value_or(*cpus));
      if (path.empty()) break;
      path.resize(path.rfind('/') == std::string::npos ? 0 : path.rfind('/'));
    }
  }
  return least;
}

}  // namespace

std::vector<int> usable_cpus() {
  std::vector<int> cpus;
  for (int n = 1024; n <= 1 << 18 && cpus.empty(); n *= 4) {  // too small a mask is EINVAL
    const size_t bytes = CPU_ALLOC_SIZE(n);
    std::vector<cpu_set_t> mask(bytes / sizeof(cpu_set_t) + 1);
    if (sched_getaffinity(0, bytes, mask.data()) != 0) continue;
    for (int cpu = 0; cpu < n; ++cpu) {
      if (CPU_ISSET_S(cpu, bytes, mask.data())) cpus.push_back(cpu);
    }
  }
  if (cpus.empty()) cpus.push_back(0);
  return cpus;
}

int physical_cores(std::span<const int> cpus, const std::string& root) {
  std::set<std::string> cores;  // a core is named by the list of its hyper-threads
  for (const int cpu : cpus) {
    const std::string folder = fmt::format("{}/sys/devices/system/cpu/cpu{}/topology", root, cpu);
    auto siblings = first_line(folder + "/core_cpus_list");
    if (!siblings) siblings = first_line(folder + "/thread_siblings_list");  // before Linux 5.4
    cores.insert(siblings.value_or(fmt::format("{}", cpu)));
  }
  int count = std::max(1, static_cast<int>(cores.size()));
  if (const auto quota = cgroup_cpus(root); quota && *quota < count)
    count = std::max(1, static_cast<int>(std::ceil(*quota)));
  return count;
}

}  // namespace fovea
