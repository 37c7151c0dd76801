// How many cores this process may use: what the scheduler, the machine and the container allow.
#pragma once

#include <span>
#include <string>
#include <vector>

namespace fovea {

std::vector<int> usable_cpus();  // logical CPUs of this process's affinity mask, ascending

// Physical cores among `cpus` (two hyper-threads are one core), no more than the cgroup's CPU
// quota rounded up, at least 1. `root` stands before /sys and /proc, for tests.
int physical_cores(std::span<const int> cpus, const std::string& root = "");

}  // namespace fovea
