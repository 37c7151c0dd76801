// Speed of the attention kernels. Prefill: the share of the measured float32 FMA peak of one core.
// Decode: bytes of pages read per second. Every set is compared with the portable one first.
#include "fovea/kernels/attention.h"

#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <memory>
#include <new>
#include <thread>
#include <vector>

#include "fovea/base/random.h"
#include "fovea/kernels/peak.h"

namespace fovea {
namespace {

using namespace kernels;

constexpr int kDim = 64;

struct Freed {
  void operator()(void* p) const { ::operator delete (p, std::align_val_t{64}); }
};
using Bytes = std::unique_ptr<void, Freed>;
Bytes allocate(size_t n) { return Bytes(::operator new (n, std::align_val_t{64})); }

double seconds(const std::function<void()>& body) {
  const auto begin = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}
double best_of(int n, const std::function<void()>& body) {
  double best = 1e30;
  for (int i = 0; i < n; ++i) best = std::min(best, seconds(body));
  return best;
}

// The keys of one KV head and queries of its group at the end of the list.
class Head {
 public:
  Head(KvType type, int group, int64_t n_queries, int64_t n_keys) {
    Rng rng(1);
    std::vector<float> k(kDim), v(kDim);
    const int64_t n_pages = (n_keys + kPageKeys - 1) / kPageKeys;
    positions_.resize(static_cast<size_t>(n_pages * kPageKeys), kNoPosition);
    for (int64_t i = 0; i < n_keys; ++i) {
      if (i % kPageKeys == 0) {
        pages_.push_back(allocate(page_bytes(type, kDim)));
        blocks_.push_back({pages_.back().get(), positions_.data() + i});
      }
      for (float& x : k) x = static_cast<float>(rng.normal());
      for (float& x : v) x = static_cast<float>(rng.normal());
      page_write(pages_.back().get(), type, kDim, static_cast<int>(i % kPageKeys), k.data(), v.data());
      positions_[static_cast<size_t>(i)] = static_cast<int32_t>(i);
    }
    q_.resize(static_cast<size_t>(n_queries * group * kDim));
    for (float& x : q_) x = static_cast<float>(rng.normal());
    for (int64_t i = 0; i < n_queries; ++i) q_pos_.push_back(static_cast<int32_t>(n_keys - n_queries + i));
    z_.resize(q_.size());
    args_.type = type;
    args_.head_dim = kDim;
    args_.group = group;
    args_.scale = 0.125f;
    args_.n_queries = n_queries;
    args_.q = q_.data();
    args_.ld_q = group * kDim;
    args_.q_pos = q_pos_.data();
    args_.blocks = blocks_.data();
    args_.n_blocks = n_pages;
    args_.z = z_.data();
    args_.ld_z = group * kDim;
    scratch_ = allocate(attention_scratch_bytes(args_));
    args_.scratch = scratch_.get();
  }

  void run() const { attention(args_); }
  const std::vector<float>& z() const { return z_; }
  double flops() const {
    double keys = 0;
    for (int32_t p : q_pos_) keys += p + 1;
    return 4.0 * keys * kDim * args_.group;
  }
  double bytes() const { return static_cast<double>(blocks_.size() * page_bytes(args_.type, kDim)); }

 private:
  std::vector<Bytes> pages_;
  std::vector<int32_t> positions_;
  std::vector<KeyBlock> blocks_;
  std::vector<float> q_, z_;
  std::vector<int32_t> q_pos_;
  Bytes scratch_;
  AttentionArgs args_;
};

// work(t) on n_threads threads at once.
void together(int n_threads, const std::function<void(int)>& work) {
  std::vector<std::thread> others;
  for (int t = 1; t < n_threads; ++t) others.emplace_back(work, t);
  work(0);
  for (std::thread& t : others) t.join();
}

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
  for (KvType type : {KvType::kF32, KvType::kF16, KvType::kQ8_0}) {
    for (int64_t n_queries : {1, 40}) {
      Head head(type, 3, n_queries, 300);
      set_isa(Isa::kPortable);
      head.run();
      const std::vector<float> want = head.z();
      set_isa(isa);
      head.run();
      for (size_t i = 0; i < want.size(); ++i) {
        if (!(std::abs(head.z()[i] - want[i]) <= 1e-5)) {
          fmt::print(stderr, "{} differs from portable: {} for {}\n", kernels::name_of(isa), head.z()[i], want[i]);
          return false;
        }
      }
    }
  }
  return true;
}

const char* name_of(KvType type) { return type == KvType::kF32 ? "f32" : type == KvType::kF16 ? "f16" : "q8_0"; }

using Heads = std::vector<std::unique_ptr<Head>>;

void report_prefill(KvType type, int n_threads, double peak) {
  for (int group : {3, 7}) {
    for (int64_t n_keys : {4096, 8192, 16384}) {
      if (n_keys > 4096 && (active_isa() == Isa::kPortable || type != KvType::kF16)) continue;
      Heads heads;
      for (int t = 0; t < n_threads; ++t) heads.push_back(std::make_unique<Head>(type, group, 256, n_keys));
      const double s = best_of(7, [&] { together(n_threads, [&](int t) { heads[static_cast<size_t>(t)]->run(); }); });
      const double gflops = heads[0]->flops() * n_threads / s * 1e-9;
      fmt::print("  prefill {} group {} keys {:5} threads {}: {:6.1f} GFLOP/s, {:4.1f} % of peak\n", name_of(type),
                 group, n_keys, n_threads, gflops, 100 * gflops / peak);
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
    fmt::print("  decode  {} group {} keys  8192 threads {}: {:6.1f} GB/s\n", name_of(type), group, n_threads, rate);
  }
}

void report(Isa isa) {
  for (int n_threads : {1, 2}) {
    const double peak = peak_gflops(n_threads);
    fmt::print("{}: float32 multiply-add peak of {} thread(s) {:.1f} GFLOP/s\n", kernels::name_of(isa), n_threads,
               peak);
    for (KvType type : {KvType::kF16, KvType::kQ8_0, KvType::kF32}) {
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
