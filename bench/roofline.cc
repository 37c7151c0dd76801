// What this machine can do at most, so that a benchmark's number can be read as a share of it: multiply-adds in
// float32 and bf16, integer dot products, and memory reads, of one thread and of all. Read the shares of the kernels
// in the output of bench_matmul and bench_attention.
#include <fmt/core.h>
#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <new>
#include <thread>
#include <vector>

#include "fovea/base/threads.h"
#include "fovea/kernels/peak.h"

namespace fovea {
namespace {

using kernels::Isa;

double seconds(const std::function<void()>& body) {
  const auto begin = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

// Sum over the threads of each one's best rate: others on the machine cut into most rounds.
double best_rate(int n_threads, const std::function<double(int thread)>& round) {
  std::vector<double> best(static_cast<size_t>(n_threads), 0.0);
  const auto work = [&](int t) {
    for (int i = 0; i < 40; ++i) best[static_cast<size_t>(t)] = std::max(best[static_cast<size_t>(t)], round(t));
  };
  std::vector<std::thread> others;
  for (int t = 1; t < n_threads; ++t) others.emplace_back(work, t);
  work(0);
  for (std::thread& other : others) other.join();
  double sum = 0;
  for (const double rate : best) sum += rate;
  return sum * 1e-9;
}

double operations(int n_threads, const kernels::Dispatched<int64_t(int64_t)>& kernel) {
  return best_rate(n_threads, [&](int) {
    int64_t done = 0;
    const double s = seconds([&] { done = kernel(1 << 15); });
    return static_cast<double>(done) / s;
  });
}

// Every thread reads a part of its own that no cache near the core holds, a slice of it per round.
double reads(int n_threads) {
  constexpr size_t kBytes = size_t{256} << 20, kSlices = 40, kSlice = kBytes / kSlices / 256 * 256;
  constexpr std::align_val_t kHugePage{size_t{2} << 20};
  std::vector<void*> parts;
  for (int t = 0; t < n_threads; ++t) {
    parts.push_back(::operator new(kBytes, kHugePage));
    (void)madvise(parts.back(), kBytes, MADV_HUGEPAGE);  // advice only
    std::memset(parts.back(), 1, kBytes);
  }
  std::vector<size_t> next(static_cast<size_t>(n_threads), 0);
  const double rate = best_rate(n_threads, [&](int t) {
    const size_t at = next[static_cast<size_t>(t)]++ % kSlices * kSlice;
    const double s =
        seconds([&] { (void)kernels::read_all(static_cast<const char*>(parts[static_cast<size_t>(t)]) + at, kSlice); });
    return static_cast<double>(kSlice) / s;
  });
  for (void* part : parts) ::operator delete(part, kHugePage);
  return rate;
}

void report(Isa isa) {
  kernels::set_isa(isa);
  for (int n = 1; n <= default_threads(); n *= 2) {
    fmt::print(
        "{:8} {} thread(s): float32 {:.0f} GFLOP/s, bf16 {:.0f} GFLOP/s, int16 {:.0f} GOP/s, int8 {:.0f} GOP/s, reads "
        "{:.1f} GB/s\n",
        kernels::name_of(isa), n, operations(n, kernels::fma_peak), operations(n, kernels::bf16_peak),
        operations(n, kernels::int16_peak), operations(n, kernels::int8_peak), reads(n));
  }
}

}  // namespace
}  // namespace fovea

int main() {
  using fovea::kernels::Isa;
  const Isa forced = fovea::kernels::active_isa();
  for (int i = fovea::kernels::kIsas - 1; i >= 0; --i) {
    const Isa isa = static_cast<Isa>(i);
    if (fovea::kernels::machine_has(isa) && (!std::getenv("FOVEA_ISA") || isa == forced)) fovea::report(isa);
  }
  return 0;
}
