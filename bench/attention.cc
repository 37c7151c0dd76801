// Speed of the attention kernels. Prefill: the share of the measured float32 FMA peak of one core.
// Decode: bytes of pages read per second. Every set is compared with the portable one first.
#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <vector>

#include "bench/attention_head.h"
#include "bench/measure.h"
#include "fovea/kernels/peak.h"

namespace fovea {
namespace {

using namespace kernels;
using namespace bench;

double peak_gflops(int n_threads) {
  double best = 0;
  for (int i = 0; i < 15; ++i) {
    int64_t flops = 0;
    const double s = seconds([&] {
      together(n_threads, [&](int t) {
        const int64_t done = fma_peak(1 << 20);
        if (t == 0) flops = done;
      });
    });
    best = std::max(best, static_cast<double>(flops) * n_threads / s * 1e-9);
  }
  return best;
}

bool check(Isa isa) {
  for (KvType type : {KvType::kF32, KvType::kI16, KvType::kQ8_0}) {
    for (int64_t n_queries : {1, 40}) {
      Head head(type, 3, n_queries, 300);
      set_isa(Isa::kPortable);
      head.run();
      const std::vector<float> want = head.z();
      set_isa(isa);
      head.run();
      for (size_t i = 0; i < want.size(); ++i) {
        // Instruction sets round a weight that lies between two codes apart now and then.
        if (!(std::abs(head.z()[i] - want[i]) <= (type == KvType::kF32 ? 1e-5 : 1e-4))) {
          fmt::print(stderr, "{} differs from portable: {} for {}\n", kernels::name_of(isa), head.z()[i], want[i]);
          return false;
        }
      }
    }
  }
  return true;
}

using Heads = std::vector<std::unique_ptr<Head>>;

void report_prefill(KvType type, int n_threads, double peak) {
  for (int group : {3, 7}) {
    for (int64_t n_keys : {4096, 8192, 16384}) {
      if (n_keys > 4096 && (active_isa() == Isa::kPortable || type == KvType::kF32)) continue;
      Heads heads;
      for (int t = 0; t < n_threads; ++t) heads.push_back(std::make_unique<Head>(type, group, 256, n_keys));
      const double s = best_of(7, [&] { together(n_threads, [&](int t) { heads[static_cast<size_t>(t)]->run(); }); });
      const double gflops = heads[0]->flops() * n_threads / s * 1e-9;
      fmt::print("  prefill {} group {} keys {:5} threads {}: {:6.1f} GFLOP/s, {:4.1f} % of peak\n",
                 kernels::name_of(type), group, n_keys, n_threads, gflops, 100 * gflops / peak);
    }
  }
}

// Walks more heads than the caches near the core hold, as the layers of a model are.
void report_decode(KvType type, int n_threads) {
  constexpr int kHeads = 24, kRepeats = 8;
  for (int group : {1, 3, 7}) {
    std::vector<Heads> heads(static_cast<size_t>(n_threads));
    for (Heads& mine : heads) {
      for (int i = 0; i < kHeads; ++i) mine.push_back(std::make_unique<Head>(type, group, 1, 8192));
    }
    std::vector<double> best(heads.size(), 1e30);  // of one head, since other programs cut in
    together(n_threads, [&](int t) {
      for (int i = 0; i < kRepeats; ++i) {
        for (const auto& head : heads[static_cast<size_t>(t)]) {
          double& s = best[static_cast<size_t>(t)];
          s = std::min(s, seconds([&] { head->run(); }));
        }
      }
    });
    double rate = 0;
    for (double s : best) rate += heads[0][0]->bytes() / s * 1e-9;
    fmt::print("  decode  {} group {} keys  8192 threads {}: {:6.1f} GB/s\n", kernels::name_of(type), group, n_threads,
               rate);
  }
}

void report(Isa isa) {
  for (int n_threads : {1, 2}) {
    const double peak = peak_gflops(n_threads);
    fmt::print("{}: float32 multiply-add peak of {} thread(s) {:.1f} GFLOP/s\n", kernels::name_of(isa), n_threads,
               peak);
    for (KvType type : {KvType::kI16, KvType::kQ8_0, KvType::kF32}) {
      report_prefill(type, n_threads, peak);
      report_decode(type, n_threads);
    }
  }
}

}  // namespace
}  // namespace fovea

int main() {
  using namespace fovea;
  using kernels::Isa;
  const Isa forced = kernels::active_isa();
  for (int i = kernels::kIsas - 1; i >= 0; --i) {
    const Isa isa = static_cast<Isa>(i);
    if (!kernels::machine_has(isa) || (std::getenv("FOVEA_ISA") && isa != forced)) continue;
    if (!check(isa)) return 1;
    kernels::set_isa(isa);
    report(isa);
  }
  return 0;
}
