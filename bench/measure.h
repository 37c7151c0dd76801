// What the benchmarks share: time of a call, and rates of many threads at once.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <string>
#include <thread>
#include <vector>

namespace fovea::bench {

inline double seconds(const std::function<void()>& body) {
  const auto begin = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

// The least time of a call: other programs on the machine cut into most of them.
inline double best_of(int n, const std::function<void()>& body) {
  double best = 1e30;
  for (int i = 0; i < n; ++i) best = std::min(best, seconds(body));
  return best;
}

// A field of /proc/self/status in bytes: VmRSS, or VmHWM, the peak since the program began. 0 where there is none.
inline int64_t status_bytes(const std::string& field) {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind(field + ":", 0) == 0) return std::atoll(line.c_str() + field.size() + 1) * 1024;
  }
  return 0;
}

// work(t) on n_threads threads at once.
inline void together(int n_threads, const std::function<void(int)>& work) {
  std::vector<std::thread> others;
  for (int t = 1; t < n_threads; ++t) others.emplace_back(work, t);
  work(0);
  for (std::thread& t : others) t.join();
}

// In 1e9 a second: the sum over the threads of each one's best rate. round(t) returns the work that it did.
inline double best_rate(int n_threads, int rounds, const std::function<double(int thread)>& round) {
  std::vector<double> best(static_cast<size_t>(n_threads), 0.0);
  together(n_threads, [&](int t) {
    for (int i = 0; i < rounds; ++i) {
      double work = 0;
      const double s = seconds([&] { work = round(t); });
      best[static_cast<size_t>(t)] = std::max(best[static_cast<size_t>(t)], work / s * 1e-9);
    }
  });
  double sum = 0;
  for (const double rate : best) sum += rate;
  return sum;
}

}  // namespace fovea::bench
