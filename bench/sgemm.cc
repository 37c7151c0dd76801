// Speed of the float32 products of a training step, in GFLOP/s, beside the multiply-add peak of as many cores:
// y = x w^T, dx = dy w and dw = dy^T x. Every form is compared first with plain loops in double.
//
//   bench_sgemm [threads] [check]
#include "fovea/kernels/sgemm.h"

#include <fmt/core.h>

#include <cmath>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "bench/measure.h"
#include "fovea/base/random.h"
#include "fovea/base/threads.h"
#include "fovea/kernels/peak.h"

namespace fovea::bench {
namespace {

using kernels::SgemmArgs;

class Product {
 public:
  Product(std::string_view form, int64_t m, int64_t n, int64_t k)
      : a_(static_cast<size_t>(m * k)), b_(static_cast<size_t>(n * k)), c_(static_cast<size_t>(m * n)) {
    Rng rng(1);
    for (std::vector<float>* x : {&a_, &b_})
      for (float& v : *x) v = static_cast<float>(rng.normal());
    args_ = {.m = m, .n = n, .k = k, .a = a_.data(), .b = b_.data(), .c = c_.data(), .ld_c = n};
    args_.a_transposed = form == "dw", args_.b_transposed = form == "y";
    args_.ld_a = args_.a_transposed ? m : k, args_.ld_b = args_.b_transposed ? k : n;
  }
  void run() const { kernels::sgemm(args_); }
  double flops() const { return 2.0 * static_cast<double>(args_.m * args_.n * args_.k); }
  bool is_right() const {
    run();
    for (int64_t i = 0; i < args_.m; ++i) {
      for (int64_t j = 0; j < args_.n; ++j) {
        double sum = 0, size = 0;
        for (int64_t p = 0; p < args_.k; ++p) {
          const double v = double{args_.a[args_.a_transposed ? p * args_.ld_a + i : i * args_.ld_a + p]} *
                           args_.b[args_.b_transposed ? j * args_.ld_b + p : p * args_.ld_b + j];
          sum += v, size += std::abs(v);
        }
        if (std::abs(sum - args_.c[i * args_.n + j]) > 1e-5 * size) return false;
      }
    }
    return true;
  }

 private:
  std::vector<float> a_, b_, c_;
  SgemmArgs args_;
};

int run(int n_threads, bool check_only) {
  set_threads(n_threads);
  for (const std::string_view form : {"y", "dx", "dw"}) {
    if (Product(form, 100, 77, 300).is_right()) continue;
    fmt::print(stderr, "bench_sgemm: {} differs from plain loops\n", form);
    return 1;
  }
  if (check_only) return 0;
  const double peak = best_rate(n_threads, 20, [](int) { return static_cast<double>(kernels::fma_peak(1 << 15)); });
  fmt::print(
      "{} thread(s), multiply-add peak {:.0f} GFLOP/s\n| m n k | y = x w^T | dx = dy w | dw = dy^T x |\n"
      "|---|---|---|---|\n",
      n_threads, peak);
  constexpr int64_t kSizes[][3] = {{1024, 128, 128},   {1024, 512, 512},   {1024, 4096, 128},  {1024, 4096, 512},
                                   {1024, 1024, 1024}, {1024, 1024, 2048}, {1024, 1024, 4096}, {512, 128, 1024}};
  for (const auto& [m, n, k] : kSizes) {
    fmt::print("| {} {} {} |", m, n, k);
    for (const std::string_view form : {"y", "dx", "dw"}) {
      const Product product(form, m, n, k);
      const double s = best_of(7, [&] { product.run(); });
      fmt::print(" {:.0f} ({:.0f} %) |", product.flops() / s * 1e-9, 100 * product.flops() / s * 1e-9 / peak);
    }
    fmt::print("\n");
  }
  return 0;
}

}  // namespace
}  // namespace fovea::bench

int main(int argc, char** argv) {
  const bool check = argc > 1 && std::string_view(argv[argc - 1]) == "check";
  const int n = argc > 1 && !check ? std::atoi(argv[1]) : 0;
  return fovea::bench::run(n > 0 ? n : fovea::default_threads(), check);
}
